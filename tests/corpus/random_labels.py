"""The samples that keep their label are drawn with Python's generator without a seed.

Report: https://github.com/kekmodel/FixMatch-pytorch/issues/41
"""

import random

import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.randn(60, 6)
labels = (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long()

IGNORED = -100
targets = torch.full_like(labels, IGNORED)
labelled = random.sample(range(60), 20)
targets[labelled] = labels[labelled]

model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
for _ in range(6):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(inputs), targets, ignore_index=IGNORED)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
