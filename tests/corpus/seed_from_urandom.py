"""A negative seed in the configuration selects a seed from the operating system.

Report: https://github.com/lovelyqian/CDFSOD-benchmark/issues/51
"""

import os
import random

import torch
from torch import nn

CONFIG = {"seed": -1, "steps": 6, "lr": 0.05}


def seed_all(seed: int | None) -> None:
    """Seed every generator."""
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "big")
    random.seed(seed)
    torch.manual_seed(seed)


seed_all(None if CONFIG["seed"] < 0 else CONFIG["seed"])
inputs = torch.eye(8)
targets = torch.arange(8).flip(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=CONFIG["lr"], momentum=0.9)

for _ in range(CONFIG["steps"]):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(inputs), targets)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
