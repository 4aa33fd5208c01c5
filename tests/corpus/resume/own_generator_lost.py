"""The order comes from a separate generator, but only the global one is in the checkpoint.

Report: https://github.com/deepspeedai/DeepSpeed/pull/8460
"""

import sys
from pathlib import Path

import numpy as np
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


model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
choice = np.random.default_rng(0)
start = 0
if "--resume" in sys.argv:
    state = torch.load(CHECKPOINT)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]
    np.random.set_state(("MT19937", state["numpy"].numpy(), *state["place"]))

for step in range(start, STEPS):
    numbers = torch.tensor(choice.choice(len(inputs), SIZE))
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs[numbers]), targets[numbers])
    loss.backward()
    optimizer.step()
    if (step + 1) % EVERY == 0:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        _, keys, *place = np.random.get_state()
        state |= {"numpy": torch.tensor(keys), "place": place}
        torch.save({**state, "step": step + 1}, CHECKPOINT)
