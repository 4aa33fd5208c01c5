"""Correct: dropout with a seed.

See https://docs.pytorch.org/docs/stable/notes/randomness.html
"""

import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.randn(64, 10)
targets = torch.randint(0, 3, (64,))
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

for _ in range(8):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(inputs), targets)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
