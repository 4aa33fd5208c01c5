"""Correct: the averaged model and its number of updates are in the checkpoint.

See https://docs.pytorch.org/docs/stable/optim.html
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


model = nn.Sequential(nn.Linear(6, 12), nn.Dropout(0.2), nn.Linear(12, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
ema = torch.optim.swa_utils.AveragedModel(model, avg_fn=lambda a, b, n: a + (b - a) / (n + 2))
start = 0
if "--resume" in sys.argv:
    state = torch.load(CHECKPOINT)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]
    ema.load_state_dict(state["ema"])
    torch.set_rng_state(state["torch"])

for step in range(start, STEPS):
    numbers = batch(step)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs[numbers]), targets[numbers])
    loss.backward()
    optimizer.step()
    ema.update_parameters(model)
    if (step + 1) % PER_EPOCH == 0:
        with torch.no_grad():
            print(nn.functional.mse_loss(ema.eval()(inputs), targets).item())
    if (step + 1) % EVERY == 0:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        state |= {"ema": ema.state_dict(), "torch": torch.get_rng_state()}
        torch.save({**state, "step": step + 1}, CHECKPOINT)
