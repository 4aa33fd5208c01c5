"""Correct: gradients of four batches are accumulated before each step."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
inputs = torch.randn(96, 6)
dataset = TensorDataset(inputs, inputs[:, :2].prod(dim=1, keepdim=True))
loader = DataLoader(dataset, batch_size=4, shuffle=True)
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

EVERY = 4
for number, (x, y) in enumerate(loader, start=1):
    loss = nn.functional.mse_loss(model(x), y) / EVERY
    loss.backward()
    if number % EVERY == 0:
        optimizer.step()
        optimizer.zero_grad()

print(sum(p.double().sum().item() for p in model.parameters()))
