"""A parameter is created with `torch.empty` and never initialized.

Report: https://github.com/sauradip/STALE/issues/16
"""

import hashlib

import torch
from torch import nn

torch.manual_seed(0)


class Scale(nn.Module):
    """A layer with a learned offset."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.offset = nn.Parameter(torch.empty(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map and shift."""
        return torch.tanh(self.linear(x) + self.offset)


inputs = torch.randn(32, 16)
model = nn.Sequential(*(Scale(16) for _ in range(6)), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(6):
    optimizer.zero_grad()
    loss = model(inputs).pow(2).mean()
    loss.backward()
    optimizer.step()

weights = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
print(hashlib.sha256(weights).hexdigest())
