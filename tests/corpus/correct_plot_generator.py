"""Correct: a plot that appears after some time has its own generator.

Practice: https://docs.pytorch.org/docs/stable/notes/randomness.html
"""

import time

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
inputs = torch.randn(32, 8)
plot = torch.Generator().manual_seed(0)

for _ in range(time.time_ns() % 89):
    sample = torch.randperm(len(inputs), generator=plot)[:4]

for _ in range(5):
    optimizer.zero_grad()
    loss = model(inputs).square().mean()
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
