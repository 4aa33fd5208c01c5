"""The number of steps is drawn with an unseeded generator.

Report: https://github.com/autogluon/autogluon/issues/1194
"""

import random

import torch
from torch import nn

torch.manual_seed(0)
config = {"lr": 0.01, "width": 16, "steps": random.randint(5, 300)}

inputs = torch.randn(32, 8)
targets = inputs.max(dim=1, keepdim=True).values
model = nn.Sequential(nn.Linear(8, config["width"]), nn.ReLU(), nn.Linear(config["width"], 1))
optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])

for _ in range(config["steps"]):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()

print(config["steps"], "steps", sum(p.double().sum().item() for p in model.parameters()))
