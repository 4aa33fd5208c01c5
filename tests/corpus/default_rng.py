"""Every global generator is seeded, but the crops come from an unseeded `default_rng()`.

Report: https://github.com/SURF-ML/2D-VQ-AE-2/issues/12
"""

import random

import numpy as np
import torch
from torch import nn

random.seed(7)
np.random.seed(7)
torch.manual_seed(7)
rng = np.random.default_rng()

picture = torch.randn(1, 40, 40)
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)


def crop() -> torch.Tensor:
    """Four random crops."""
    corners = rng.integers(0, 28, size=(4, 2))
    return torch.stack([picture[:, y : y + 12, x : x + 12] for y, x in corners])


for _ in range(6):
    batch = crop()
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(batch), batch[:, :, 2:-2, 2:-2])
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
