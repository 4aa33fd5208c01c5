"""Training stops at a time limit, so the number of steps depends on the machine's speed.

Report: https://github.com/autogluon/autogluon/issues/1454
"""

import time

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
inputs = torch.randn(512, 64)
targets = inputs.abs().sum(dim=1, keepdim=True)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)

TIME_LIMIT = 0.4
start, steps = time.monotonic(), 0
while time.monotonic() - start < TIME_LIMIT:
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()
    steps += 1

print(steps, "steps", sum(p.double().sum().item() for p in model.parameters()))
