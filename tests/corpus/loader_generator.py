"""The DataLoader shuffles with its own generator, which has a random seed.

Report: https://github.com/facebookresearch/detectron2/issues/2121
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
inputs = torch.randn(64, 5)
dataset = TensorDataset(inputs, inputs.sum(dim=1, keepdim=True).tanh())

shuffle = torch.Generator()
shuffle.seed()
loader = DataLoader(dataset, batch_size=8, shuffle=True, generator=shuffle)

model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in loader:
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
