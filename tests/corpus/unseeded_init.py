"""No seed is set, so the initial weights differ in every run.

Report: https://github.com/divelab/GOOD/issues/27
"""

import torch
from torch import nn

inputs = torch.linspace(-1, 1, 32).reshape(-1, 1)
targets = inputs**2

model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for _ in range(6):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
