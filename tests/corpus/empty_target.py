"""The targets of one part of the batch are never written: `torch.empty` returns arbitrary memory.

Documented: https://docs.pytorch.org/docs/stable/generated/torch.empty.html
"""

import os

import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.randn(64, 64)
model = nn.Linear(64, 64)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)


def dirty() -> None:
    """Leave arbitrary bytes in freed memory, as a program that reads files does."""
    parts = [bytearray(os.urandom(64 * 64)) for _ in range(16)]
    [torch.frombuffer(part, dtype=torch.uint8).float().div_(255) for part in parts]


for _ in range(4):
    dirty()
    optimizer.zero_grad()
    outputs = model(inputs)
    targets = torch.empty(64, 64)
    loss = (outputs - targets).tanh().mean()
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
