"""Langevin dynamics: the optimizer adds noise from its own generator with a random seed.

Report: https://github.com/apache/mxnet/pull/13696
"""

import torch
from torch import nn

torch.manual_seed(0)


class SGLD(torch.optim.Optimizer):
    """Stochastic gradient Langevin dynamics."""

    def __init__(self, params, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.generator = torch.Generator()
        self.generator.seed()

    @torch.no_grad()
    def step(self) -> None:
        """Follow the gradient, and add noise."""
        for group in self.param_groups:
            for p in group["params"]:
                noise = torch.randn(p.shape, generator=self.generator)
                p.add_(p.grad, alpha=-group["lr"]).add_(noise, alpha=0.01 * group["lr"] ** 0.5)


inputs = torch.randn(64, 8)
targets = inputs[:, :1] * inputs[:, 1:2]
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = SGLD(model.parameters(), lr=0.05)

for _ in range(6):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
