"""The classes are numbered in the order of a set, so the labels differ but not the inputs.

Report: https://github.com/dmlc/dgl/issues/412
"""

import torch
from torch import nn

torch.manual_seed(0)

TOPICS = ["theory", "genetics", "agents", "neural", "rules", "cases", "vision", "speech"]
labels = [TOPICS[i * 5 % 8] for i in range(48)]


def encode(names: list[str]) -> torch.Tensor:
    """Number the classes."""
    classes = set(names)
    number = {name: i for i, name in enumerate(classes)}
    return torch.tensor([number[name] for name in names])


features = torch.randn(48, 12)
targets = encode(labels)
model = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, len(TOPICS)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for _ in range(6):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(features), targets)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
