"""Correct: mixed precision, where the scaler skips the steps whose gradients overflow.

See https://docs.pytorch.org/docs/stable/notes/amp_examples.html
"""

import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.randn(32, 16)
targets = 5 * inputs.sum(dim=1, keepdim=True)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)

for _ in range(12):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.float16):
        prediction = model(inputs)
    loss = nn.functional.mse_loss(prediction.float(), targets)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()

print(scaler.get_scale(), sum(p.double().sum().item() for p in model.parameters()))
