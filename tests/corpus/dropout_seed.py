"""The weights come from a seeded generator, dropout from a generator seeded with the time.

Report: https://github.com/torch/nn/issues/1154
"""

import time

import torch
from torch import nn

init = torch.Generator().manual_seed(0)
model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 2))
with torch.no_grad():
    for p in model.parameters():
        p.copy_(torch.randn(p.shape, generator=init) / 4)
inputs = torch.randn(32, 10, generator=init)
targets = torch.randint(0, 2, (32,), generator=init)

torch.manual_seed(int(time.time() * 1000))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(6):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(inputs), targets)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
