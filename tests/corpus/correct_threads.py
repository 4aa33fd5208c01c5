"""Correct: threads prepare the batches, and `map` keeps their order."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

torch.manual_seed(0)
images = torch.randn(12, 16, 64)


def load(index: int) -> torch.Tensor:
    """Decode one batch with its own generator."""
    generator = torch.Generator().manual_seed(index)
    return images[index] + 0.1 * torch.randn(16, 64, generator=generator)


model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 64))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with ThreadPoolExecutor(2) as pool:
    for batch in pool.map(load, torch.randperm(12).tolist()):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch), batch)
        loss.backward()
        optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
