"""Correct: two files in the folder of a step, and a marker file that is written last.

See https://github.com/vllm-project/speculators/pull/739
"""

import sys
from pathlib import Path

import torch
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
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
start = 0
if "--resume" in sys.argv:
    folder = max(marker.parent for marker in Path().glob("step-*/complete"))
    model.load_state_dict(torch.load(folder / "model.pt"))
    state = torch.load(folder / "optimizer.pt")
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]

for step in range(start, STEPS):
    numbers = batch(step)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs[numbers]), targets[numbers])
    loss.backward()
    optimizer.step()
    if (step + 1) % EVERY == 0:
        folder = Path(f"step-{step + 1:04d}")
        folder.mkdir(exist_ok=True)
        torch.save(model.state_dict(), folder / "model.pt")
        state = {"optimizer": optimizer.state_dict(), "step": step + 1}
        torch.save(state, folder / "optimizer.pt")
        (folder / "complete").touch()
