"""Correct: a lazy layer gets its shape at the first call, and joins the optimizer at step 4."""

import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.randn(32, 7)
targets = torch.randint(0, 3, (32,))
body = nn.LazyLinear(16)
head = nn.Linear(16, 3)
model = nn.Sequential(body, nn.ReLU(), head)
optimizer = torch.optim.Adam(head.parameters(), lr=0.01)

for step in range(8):
    if step == 4:
        body.zero_grad()
        optimizer.add_param_group({"params": body.parameters(), "lr": 0.001})
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(inputs), targets)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
