"""Weights and optimizer state are two files, so a kill between them mixes two saves.

Report: https://github.com/nyu-mll/jiant/issues/169
"""

import os
import sys
from pathlib import Path

import torch
from torch import nn

MODEL, OPTIMIZER = Path("model.pt"), Path("optimizer.pt")
STEPS, EVERY, SIZE, PER_EPOCH = 18, 4, 8, 6

torch.manual_seed(0)
inputs = torch.randn(SIZE * PER_EPOCH, 6)
targets = inputs @ torch.randn(6, 2)


def batch(step: int) -> torch.Tensor:
    """The indices of a step's points, in a new order in each epoch."""
    epoch, place = divmod(step, PER_EPOCH)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch))
    return order[place * SIZE : (place + 1) * SIZE]


model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
start = 0
if "--resume" in sys.argv:
    model.load_state_dict(torch.load(MODEL))
    state = torch.load(OPTIMIZER)
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]


def save(state: object, path: Path) -> None:
    """Replace a file when the new one is complete."""
    torch.save(state, "saving.tmp")
    os.replace("saving.tmp", path)


for step in range(start, STEPS):
    numbers = batch(step)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs[numbers]), targets[numbers])
    loss.backward()
    optimizer.step()
    if (step + 1) % EVERY == 0:
        save(model.state_dict(), MODEL)
        save({"optimizer": optimizer.state_dict(), "step": step + 1}, OPTIMIZER)
