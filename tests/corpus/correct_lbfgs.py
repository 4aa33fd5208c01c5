"""Correct: LBFGS, which computes the loss several times within a step.

See https://docs.pytorch.org/docs/stable/generated/torch.optim.LBFGS.html
"""

import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.linspace(-1, 1, 40).reshape(-1, 1)
targets = torch.sin(4 * inputs)
model = nn.Sequential(nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 1))
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5)


def closure() -> torch.Tensor:
    """The loss, with its gradients."""
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    return loss


for _ in range(5):
    optimizer.step(closure)

print(sum(p.double().sum().item() for p in model.parameters()))
