"""Correct: one folder per checkpoint; the newest with metadata is loaded.

See https://docs.pytorch.org/docs/stable/distributed.checkpoint.html
"""

import sys
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import nn

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
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
start = 0
if "--resume" in sys.argv:
    newest = max(path.parent for path in Path().glob("step-*/.metadata"))
    state = {"model": model.state_dict(), "step": 0}
    dcp.load(state, checkpoint_id=newest)
    model.load_state_dict(state["model"])
    start = state["step"]

for step in range(start, STEPS):
    numbers = batch(step)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs[numbers]), targets[numbers])
    loss.backward()
    optimizer.step()
    if (step + 1) % EVERY == 0:
        state = {"model": model.state_dict(), "step": step + 1}
        dcp.save(state, checkpoint_id=f"step-{step + 1:04d}")
