"""Correct: a frozen part that is not saved because it is identical at every start.

See https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html
"""

import sys
from pathlib import Path

import torch
from torch import nn

CHECKPOINT = Path("last.pt")
STEPS, EVERY, SIZE, PER_EPOCH = 18, 4, 8, 6

torch.manual_seed(0)
inputs = torch.randn(SIZE * PER_EPOCH, 6)
targets = inputs @ torch.randn(6, 2)


def batch(step: int) -> torch.Tensor:
    """The indices of a step's points, in a new order in each epoch."""
    epoch, place = divmod(step, PER_EPOCH)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch))
    return order[place * SIZE : (place + 1) * SIZE]


base = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12)).eval().requires_grad_(False)
head = nn.Sequential(nn.Dropout(0.1), nn.Linear(12, 2))
model = nn.Sequential(base, head)
optimizer = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9)
start = 0
if "--resume" in sys.argv:
    state = torch.load(CHECKPOINT)
    head.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]
    torch.set_rng_state(state["torch"])

for step in range(start, STEPS):
    numbers = batch(step)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs[numbers]), targets[numbers])
    loss.backward()
    optimizer.step()
    if (step + 1) % EVERY == 0:
        state = {"model": head.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "step": step + 1, "torch": torch.get_rng_state()}, CHECKPOINT)
