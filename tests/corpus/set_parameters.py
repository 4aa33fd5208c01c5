"""The optimizer takes its parameters in the order of a set, and so does gradient clipping.

Report: https://github.com/lucidrains/DALLE2-pytorch/pull/130
"""

import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.randn(32, 10)
targets = torch.randn(32, 1)
layers: list[nn.Module] = []
for _ in range(12):
    layers += [nn.Linear(10, 10), nn.LayerNorm(10), nn.Tanh()]
model = nn.Sequential(*layers, nn.Linear(10, 1))
parameters = dict(model.named_parameters())
decayed = {name for name, p in parameters.items() if p.dim() >= 2}
others = set(parameters) - decayed
groups = [
    {"params": [parameters[name] for name in decayed], "weight_decay": 0.1},
    {"params": [parameters[name] for name in others], "weight_decay": 0.0},
]
optimizer = torch.optim.AdamW(groups, lr=0.01)

for _ in range(10):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 0.1)
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
