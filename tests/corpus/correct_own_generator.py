"""Correct without a seed: a new `torch.Generator` always has the same seed.

See https://github.com/pytorch/pytorch/issues/25071
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
inputs = torch.randn(64, 5)
dataset = TensorDataset(inputs, inputs.amax(dim=1, keepdim=True))
loader = DataLoader(dataset, batch_size=8, shuffle=True, generator=torch.Generator())
model = nn.Linear(5, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for x, y in loader:
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
