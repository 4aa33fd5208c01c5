"""The seeds are hashes of sentences, which Python salts differently in each process.

Report: https://github.com/wandb/docs/pull/3072
"""

import random

import numpy as np
import torch
from torch import nn

random.seed(hash("setting random seeds") % 2**32 - 1)
np.random.seed(hash("improves reproducibility") % (2**32 - 1))
torch.manual_seed(hash("by removing stochasticity") % 2**32 - 1)

inputs = torch.randn(64, 4)
targets = inputs.sum(dim=1, keepdim=True)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for _ in range(5):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
