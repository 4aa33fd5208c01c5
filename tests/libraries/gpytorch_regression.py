"""The regression tutorial of GPyTorch: an exact Gaussian process with an RBF kernel."""

import math

import gpytorch
import torch

torch.manual_seed(0)
train_x = torch.linspace(0, 1, 30)
train_y = torch.sin(train_x * 2 * math.pi) + torch.randn(30) * 0.2


class ExactGPModel(gpytorch.models.ExactGP):
    def __init__(self, likelihood: gpytorch.likelihoods.Likelihood) -> None:
        super().__init__(train_x, train_y, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

    def forward(self, x: torch.Tensor) -> gpytorch.distributions.MultivariateNormal:
        covariance = self.covar_module(x)
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), covariance)


likelihood = gpytorch.likelihoods.GaussianLikelihood()
model = ExactGPModel(likelihood)
model.train()
likelihood.train()
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
mll = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
for i in range(8):
    optimizer.zero_grad()
    loss = -mll(model(train_x), train_y)
    loss.backward()
    optimizer.step()
    print(i, loss.item(), model.covar_module.base_kernel.lengthscale.item())
torch.save(model.state_dict(), "weights.pt")
