"""Correct: a student learns from a moving average of itself."""

import copy

import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.randn(48, 8)
student = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
teacher = copy.deepcopy(student).requires_grad_(False)
optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)

for _ in range(8):
    view1 = inputs + 0.1 * torch.randn_like(inputs)
    view2 = inputs + 0.1 * torch.randn_like(inputs)
    with torch.no_grad():
        wanted = teacher(view2).softmax(dim=1)
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(student(view1), wanted)
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
            old.lerp_(new, 0.05)

print(sum(p.double().sum().item() for p in [*student.parameters(), *teacher.parameters()]))
