"""Correct: evaluation between the steps, whose loader draws from the same generator.

See https://github.com/pytorch/pytorch/issues/80119
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
inputs = torch.randn(80, 6)
targets = (inputs.sum(dim=1) > 0).long()
train_loader = DataLoader(TensorDataset(inputs[:64], targets[:64]), batch_size=32, shuffle=True)
valid_loader = DataLoader(TensorDataset(inputs[64:], targets[64:]), batch_size=8)
model = nn.Sequential(
    nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 2)
)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


@torch.no_grad()
def accuracy() -> float:
    """The number of correct answers on the validation data."""
    model.eval()
    right = sum((model(x).argmax(dim=1) == y).sum().item() for x, y in valid_loader)
    model.train()
    return right / 16


for _ in range(4):
    for x, y in train_loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    print("accuracy", accuracy())

print(sum(p.double().sum().item() for p in model.parameters()))
