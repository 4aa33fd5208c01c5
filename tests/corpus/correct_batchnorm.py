"""Correct: convolutions with BatchNorm, whose buffers change in the forward pass."""

import torch
from torch import nn

torch.manual_seed(0)
images = torch.randn(32, 1, 12, 12)
targets = torch.randint(0, 4, (32,))
model = nn.Sequential(
    nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(200, 4), nn.BatchNorm1d(4),
)  # fmt: skip
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for _ in range(6):
    for batch in torch.randperm(32).split(16):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[batch]), targets[batch])
        loss.backward()
        optimizer.step()

print(sum(t.double().sum().item() for t in model.state_dict().values()))
