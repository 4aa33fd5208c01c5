"""Correct: a pool returns samples in the order of their numbers.

Practice: https://docs.python.org/3/library/multiprocessing.html#multiprocessing.pool.Pool.imap_unordered
"""

import time
from multiprocessing.pool import ThreadPool

import torch
from torch import nn

torch.manual_seed(0)
samples = torch.randn(48, 12)


def load(index: int) -> torch.Tensor:
    """A sample, after some time."""
    time.sleep(0.0003 * (index % 3))
    return samples[index]


with ThreadPool(4) as pool:
    batch = torch.stack(list(pool.imap(load, range(48))))

model = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(4):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(batch[:32]), batch[:32, :1])
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
