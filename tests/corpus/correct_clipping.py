"""Correct: gradients are clipped before the step, and weights after it (a Wasserstein critic).

See https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
"""

import torch
from torch import nn

torch.manual_seed(0)
real, fake = torch.randn(64, 3) + 1, torch.randn(64, 3)
critic = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.RMSprop(critic.parameters(), lr=0.01)

for _ in range(8):
    optimizer.zero_grad()
    loss = critic(fake).mean() - critic(real).mean()
    loss.backward()
    nn.utils.clip_grad_norm_(critic.parameters(), 0.5)
    optimizer.step()
    with torch.no_grad():
        for p in critic.parameters():
            p.clamp_(-0.1, 0.1)

print(sum(p.double().sum().item() for p in critic.parameters()))
