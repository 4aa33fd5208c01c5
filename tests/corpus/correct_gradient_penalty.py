"""Correct: a gradient penalty, with a second derivative through spectral normalization."""

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

torch.manual_seed(0)
data = torch.randn(32, 4)
critic = nn.Sequential(spectral_norm(nn.Linear(4, 16)), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)

for _ in range(5):
    x = data.clone().requires_grad_()
    optimizer.zero_grad()
    value = critic(x)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    penalty = (slope.norm(dim=1) - 1).square().mean()
    (value.mean() + penalty).backward()
    optimizer.step()

print(sum(t.double().sum().item() for t in critic.state_dict().values()))
