"""Each process seeds the noise with its process id, to get different noise per process.

Documented: https://docs.pytorch.org/docs/stable/notes/randomness.html
"""

import os
import random

import torch
from torch import nn

torch.manual_seed(0)
noise = random.Random(1000 + os.getpid())
inputs = torch.linspace(-1, 1, 32).reshape(-1, 1)
model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for _ in range(4):
    noisy = inputs + noise.gauss(0, 0.01)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(noisy), inputs.square())
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
