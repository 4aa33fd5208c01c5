"""Correct: a safetensors file replaces the checkpoint when it is complete.

See https://huggingface.co/docs/safetensors/api/torch
"""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

CHECKPOINT = Path("last.safetensors")
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
    state = load_file(CHECKPOINT)
    start = int(state.pop("step"))
    model.load_state_dict(state)

for step in range(start, STEPS):
    numbers = batch(step)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs[numbers]), targets[numbers])
    loss.backward()
    optimizer.step()
    if (step + 1) % EVERY == 0:
        save_file({**model.state_dict(), "step": torch.tensor(step + 1)}, "last.tmp")
        os.replace("last.tmp", CHECKPOINT)
