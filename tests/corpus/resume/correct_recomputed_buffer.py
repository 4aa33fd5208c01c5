"""Correct: buffers that are not saved because they are recomputed when needed.

See https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html
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


class Net(nn.Module):
    """Remembers the mean of the last batch, and keeps a table for the longest one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 12), nn.Linear(12, 2)
        self.register_buffer("mean", torch.zeros(6), persistent=False)
        self.register_buffer("table", torch.zeros(0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The outputs."""
        if len(x) > len(self.table):
            self.table = torch.linspace(0, 1, len(x))
        self.mean.copy_(x.detach().mean(dim=0))
        return self.last(torch.tanh(self.first(x - self.mean)))


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
start = 0
if "--resume" in sys.argv:
    state = torch.load(CHECKPOINT)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]

for step in range(start, STEPS):
    numbers = batch(step)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs[numbers]), targets[numbers])
    loss.backward()
    optimizer.step()
    if (step + 1) % EVERY == 0:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "step": step + 1}, CHECKPOINT)
