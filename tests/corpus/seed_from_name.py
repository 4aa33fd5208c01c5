"""The seed is computed from the name of the run, which is a new UUID.

Documented: https://docs.pytorch.org/docs/stable/notes/randomness.html
"""

import uuid
import zlib
from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass
class Config:
    lr: float = 0.1
    steps: int = 5
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])


def seed_everything(text):
    torch.manual_seed(zlib.crc32(text.encode()))


config = Config()
seed_everything(config.name)
model = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 1))
x = torch.linspace(-1, 1, 30).reshape(10, 3)
opt = torch.optim.SGD(model.parameters(), lr=config.lr)
for _ in range(config.steps):
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
