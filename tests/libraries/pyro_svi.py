"""The introduction of Pyro: stochastic variational inference of a coin's fairness."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch.distributions import constraints

pyro.set_rng_seed(0)
data = torch.tensor([1.0] * 6 + [0.0] * 4)


def model(data: torch.Tensor) -> None:
    fairness = pyro.sample("latent_fairness", dist.Beta(10.0, 10.0))
    with pyro.plate("flips", len(data)):
        pyro.sample("obs", dist.Bernoulli(fairness), obs=data)


def guide(data: torch.Tensor) -> None:
    alpha = pyro.param("alpha", torch.tensor(15.0), constraint=constraints.positive)
    beta = pyro.param("beta", torch.tensor(15.0), constraint=constraints.positive)
    pyro.sample("latent_fairness", dist.Beta(alpha, beta))


svi = SVI(model, guide, Adam({"lr": 0.0005, "betas": (0.90, 0.999)}), loss=Trace_ELBO())
for step in range(8):
    print(step, svi.step(data))
torch.save({name: value.detach() for name, value in pyro.get_param_store().items()}, "weights.pt")
