"""The learning rate is drawn with Python's generator without a seed.

Report: https://github.com/MIC-DKFZ/batchgenerators/issues/17
"""

import random

import numpy as np
import torch
from torch import nn

np.random.seed(1)
torch.manual_seed(1)

inputs = torch.randn(64, 8)
targets = (inputs.sum(dim=1, keepdim=True) > 0).float()
model = nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=10 ** random.uniform(-2, -1))

for _ in range(6):
    optimizer.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(model(inputs), targets)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
