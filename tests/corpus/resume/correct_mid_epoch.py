"""Correct: resumed within an epoch: its shuffle is repeated, and its first batches are skipped.

See https://docs.pytorch.org/docs/stable/data.html
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CHECKPOINT = Path("last.pt")
STEPS, EVERY, SIZE, PER_EPOCH = 18, 4, 8, 6

torch.manual_seed(0)
inputs = torch.randn(SIZE * PER_EPOCH, 6)
targets = inputs @ torch.randn(6, 2)

order = torch.Generator()
loader = DataLoader(TensorDataset(inputs, targets), SIZE, shuffle=True, generator=order)
model = nn.Sequential(nn.Linear(6, 12), nn.Dropout(0.2), nn.Linear(12, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
start = 0
if "--resume" in sys.argv:
    state = torch.load(CHECKPOINT)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]

for epoch in range(start // PER_EPOCH, STEPS // PER_EPOCH):
    order.manual_seed(epoch)
    for step, (points, values) in enumerate(loader, epoch * PER_EPOCH):
        if step < start:
            continue
        if step == start and start:
            torch.set_rng_state(state["torch"])
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(points), values)
        loss.backward()
        optimizer.step()
        if (step + 1) % EVERY == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step + 1, "torch": torch.get_rng_state()}, CHECKPOINT)
