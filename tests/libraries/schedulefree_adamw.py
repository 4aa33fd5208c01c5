"""The loop of Schedule-Free: an optimizer with a `train` and an `eval` mode."""

import schedulefree
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = schedulefree.AdamWScheduleFree(model.parameters(), lr=0.0025, warmup_steps=2)
x, y = torch.randn(64, 8), torch.randn(64, 1)
for epoch in range(2):
    model.train()
    optimizer.train()
    for rows in torch.randperm(64).split(16):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[rows]), y[rows]).backward()
        optimizer.step()
    model.eval()
    optimizer.eval()
    with torch.no_grad():
        print(epoch, nn.functional.mse_loss(model(x), y).item())
torch.save(model.state_dict(), "weights.pt")
