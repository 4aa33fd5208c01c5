"""A background thread saves tensors while training changes them: the checkpoint mixes steps.

Report: https://github.com/Lightning-AI/pytorch-lightning/issues/20953
"""

import queue
import sys
import threading
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


model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
start = 0
if "--resume" in sys.argv:
    state = torch.load(CHECKPOINT)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]

jobs: queue.Queue = queue.Queue()
turns: queue.Queue = queue.Queue()


def write() -> None:
    """Copy the tensors one by one, the second half after another step, and save them."""
    while True:
        step = jobs.get()
        weights, names = {}, list(model.state_dict())
        for name in names[:2]:
            weights[name] = model.state_dict()[name].clone()
        turns.put(None)
        jobs.get()
        for name in names[2:]:
            weights[name] = model.state_dict()[name].clone()
        torch.save(
            {"model": weights, "optimizer": optimizer.state_dict(), "step": step}, CHECKPOINT
        )
        turns.put(None)


threading.Thread(target=write, daemon=True).start()
for step in range(start, STEPS):
    numbers = batch(step)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs[numbers]), targets[numbers])
    loss.backward()
    optimizer.step()
    if step and (step + 1) % EVERY < 2:
        jobs.put(step + 1)
        turns.get()
