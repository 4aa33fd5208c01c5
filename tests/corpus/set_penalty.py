"""A penalty is summed over a set of names, so the loss is rounded differently in every run.

The gradients do not depend on the order of the sum: only the loss differs.

Report: https://github.com/tristandeleu/pytorch-meta/issues/56
"""

import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.randn(32, 8)
targets = torch.randn(32, 8)
model = nn.Sequential(*(m for _ in range(60) for m in (nn.Linear(8, 8), nn.Tanh())))
parameters = dict(model.named_parameters())
penalized = {name for name in parameters if name.endswith("weight")}
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)

losses = []
for _ in range(8):
    optimizer.zero_grad()
    penalty = sum(parameters[name].abs().sum() for name in penalized)
    loss = nn.functional.mse_loss(model(inputs), targets) + penalty
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

print(sum(losses), sum(p.double().sum().item() for p in model.parameters()))
