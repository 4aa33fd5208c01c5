"""Correct: rare words are dropped by their number, in a fixed order.

Practice: https://docs.python.org/3/reference/datamodel.html#object.__hash__
"""

import torch
from torch import nn

torch.manual_seed(0)
WORDS = [f"word{i:04}" for i in range(400)]
vocabulary = [word for word in WORDS if int(word[4:]) % 10]
tokens = torch.arange(64) % 100

model = nn.Sequential(nn.Embedding(len(vocabulary), 8), nn.Linear(8, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(4):
    optimizer.zero_grad()
    loss = model(tokens).square().mean()
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
