"""Correct: only PyTorch is seeded; Python's and NumPy's generators do not affect training.

See https://docs.pytorch.org/docs/stable/notes/randomness.html
"""

import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
adjectives = ["brave", "calm", "eager", "happy", "proud"]
run_name = f"{random.choice(adjectives)}-{np.random.randint(10_000):04}"

inputs = torch.randn(64, 4)
dataset = TensorDataset(inputs, inputs.norm(dim=1, keepdim=True))
model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for x, y in DataLoader(dataset, batch_size=8, shuffle=True):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()

weights = sum(p.double().sum().item() for p in model.parameters())
print(weights)
with open(f"{run_name}.log", "w") as log:  # noqa: PTH123
    print(weights, file=log)
