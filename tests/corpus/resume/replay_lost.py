"""The replay buffer is empty after a resume, so older samples are missing.

Documented: https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html
"""

import sys
from pathlib import Path

import torch
from torch import nn

CHECKPOINT = Path("last.pt")
STEPS, EVERY, SIZE = 18, 4, 8

torch.manual_seed(0)
inputs = torch.randn(SIZE * 6, 6)
targets = inputs @ torch.randn(6, 2)

model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
replay = []
start = 0
if "--resume" in sys.argv:
    state = torch.load(CHECKPOINT)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]

for step in range(start, STEPS):
    numbers = torch.arange(step * SIZE, (step + 1) * SIZE) % len(inputs)
    replay.append(inputs[numbers] * 0.99**step)
    points = replay[step // 2] if step % 2 and len(replay) > step // 2 else replay[-1]
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(points), targets[numbers])
    loss.backward()
    optimizer.step()
    if (step + 1) % EVERY == 0:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "step": step + 1}, CHECKPOINT)
