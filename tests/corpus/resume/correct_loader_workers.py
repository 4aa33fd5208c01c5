"""Correct: two loader workers with seeds from a generator that is seeded per epoch.

See https://docs.pytorch.org/docs/stable/notes/randomness.html
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CHECKPOINT = Path("last.pt")
STEPS, EVERY, SIZE, PER_EPOCH = 12, 4, 8, 6

torch.manual_seed(0)
inputs = torch.randn(SIZE * PER_EPOCH, 6)
targets = inputs @ torch.randn(6, 2)


class Noisy(Dataset):
    """Points with noise that a loader worker draws."""

    def __len__(self) -> int:
        """The number of points."""
        return len(inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A point and its target."""
        return inputs[index] + 0.1 * torch.randn(6), targets[index]


order = torch.Generator()
loader = DataLoader(Noisy(), SIZE, shuffle=True, num_workers=2, generator=order)
model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
start = 0
if "--resume" in sys.argv:
    state = torch.load(CHECKPOINT)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]

for epoch in range(start // PER_EPOCH, STEPS // PER_EPOCH):
    order.manual_seed(epoch)
    for step, (points, values) in enumerate(loader, epoch * PER_EPOCH):
        if step < start:
            continue
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(points), values)
        loss.backward()
        optimizer.step()
        if (step + 1) % EVERY == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step + 1}, CHECKPOINT)
