"""The quickstart of BoTorch: fit a Gaussian process with L-BFGS-B, optimize an acquisition."""

import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Normalize, Standardize
from botorch.optim import optimize_acqf
from gpytorch.mlls import ExactMarginalLogLikelihood

torch.manual_seed(0)
train_X = torch.rand(10, 2, dtype=torch.double) * 2
Y = 1 - (train_X - 0.5).norm(dim=-1, keepdim=True) + 0.1 * torch.randn(10, 1).double()
gp = SingleTaskGP(train_X, Y, input_transform=Normalize(d=2), outcome_transform=Standardize(m=1))
fit_gpytorch_mll(ExactMarginalLogLikelihood(gp.likelihood, gp))
bounds = torch.stack([torch.zeros(2), torch.ones(2)]).double()
acquisition = LogExpectedImprovement(gp, best_f=Y.max())
candidate, value = optimize_acqf(acquisition, bounds=bounds, q=1, num_restarts=2, raw_samples=8)
print(candidate, value)
torch.save(gp.state_dict(), "weights.pt")
