"""The 8-bit optimizer of bitsandbytes: `Adam8bit` in place of `torch.optim.Adam`."""

import bitsandbytes as bnb
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = bnb.optim.Adam8bit(model.parameters(), lr=0.001, betas=(0.9, 0.995))
for _ in range(5):
    x = torch.randn(16, 128)
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
torch.save(model.state_dict(), "weights.pt")
