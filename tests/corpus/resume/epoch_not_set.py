"""The sampler's epoch is not restored: each process counts from 0.

Report: https://github.com/huggingface/accelerate/pull/4238
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

CHECKPOINT = Path("last.pt")
STEPS, EVERY, SIZE, PER_EPOCH = 18, 4, 8, 6

torch.manual_seed(0)
inputs = torch.randn(SIZE * PER_EPOCH, 6)
targets = inputs @ torch.randn(6, 2)

data = TensorDataset(inputs, targets)
sampler = DistributedSampler(data, num_replicas=1, rank=0)
model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
start = 0
if "--resume" in sys.argv:
    state = torch.load(CHECKPOINT)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]

for number, epoch in enumerate(range(start // PER_EPOCH, STEPS // PER_EPOCH)):
    sampler.set_epoch(number)
    for points, values in DataLoader(data, SIZE, sampler=sampler):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(points), values)
        loss.backward()
        optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "step": (epoch + 1) * PER_EPOCH}, CHECKPOINT)
