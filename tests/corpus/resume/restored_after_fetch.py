"""The generator states are restored after the first batch, with its noise, was fetched.

Report: https://github.com/huggingface/transformers/pull/46628
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


def fetch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch, with noise from the global generator."""
    numbers = batch(step)
    return inputs[numbers] + 0.1 * torch.randn(SIZE, 6), targets[numbers]


model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
generator = None
start = 0
if "--resume" in sys.argv:
    state = torch.load(CHECKPOINT)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]
    generator = state["torch"]

for step in range(start, STEPS):
    points, values = fetch(step)
    if generator is not None:
        torch.set_rng_state(generator)
        generator = None
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(points), values)
    loss.backward()
    optimizer.step()
    if (step + 1) % EVERY == 0:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "step": step + 1, "torch": torch.get_rng_state()}, CHECKPOINT)
