"""Correct: a warm-up from a learning rate of 0, and a cosine after it.

See https://docs.pytorch.org/docs/stable/optim.html
"""

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

torch.manual_seed(0)
inputs = torch.randn(32, 5)
targets = inputs @ torch.randn(5, 2)
model = nn.Linear(5, 2)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
warm_up = LinearLR(optimizer, start_factor=1e-8, total_iters=4)
cosine = CosineAnnealingLR(optimizer, T_max=8)
schedule = SequentialLR(optimizer, [warm_up, cosine], milestones=[4])

for _ in range(12):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()
    schedule.step()

print(schedule.get_last_lr(), sum(p.double().sum().item() for p in model.parameters()))
