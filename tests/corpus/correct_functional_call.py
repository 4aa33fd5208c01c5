"""Correct: gradients by `torch.func`, written into `.grad` by hand.

See https://docs.pytorch.org/docs/stable/func.html
"""

import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

torch.manual_seed(0)
inputs, targets = torch.randn(32, 4), torch.randn(32, 1)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def loss_of(parameters: dict, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The loss of one sample."""
    return nn.functional.mse_loss(functional_call(model, parameters, (x,)), y)


per_sample = vmap(grad_and_value(loss_of), in_dims=(None, 0, 0))
for _ in range(6):
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    gradients, losses = per_sample(parameters, inputs, targets)
    for name, p in model.named_parameters():
        p.grad = gradients[name].clamp(-1, 1).mean(dim=0)
    optimizer.step()

print(losses.mean().item(), sum(p.double().sum().item() for p in model.parameters()))
