"""Correct: one optimizer for each parameter, each stepping within the backward pass.

See https://docs.pytorch.org/tutorials/intermediate/optimizer_step_in_backward_tutorial.html
"""

import torch
from torch import nn

torch.manual_seed(0)
inputs, targets = torch.randn(32, 6), torch.randn(32, 1)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1))
optimizers = {p: torch.optim.Adam([p], lr=0.01) for p in model.parameters()}


def update(p: torch.Tensor) -> None:
    """Step as soon as the gradient is computed."""
    optimizers[p].step()
    optimizers[p].zero_grad()


for p in model.parameters():
    p.register_post_accumulate_grad_hook(update)

for _ in range(3):
    nn.functional.mse_loss(model(inputs), targets).backward()

print(sum(p.double().sum().item() for p in model.parameters()))
