"""Correct: a compiled model.

See https://docs.pytorch.org/docs/stable/generated/torch.compile.html
"""

import torch
from torch import nn


class Net(nn.Module):
    """Two layers with a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map."""
        return self.second(x + torch.nn.functional.gelu(self.first(x)))


def main() -> None:
    """Train."""
    torch.manual_seed(0)
    inputs = torch.randn(32, 8)
    targets = inputs.cumsum(dim=1)[:, -1:]
    model = torch.compile(Net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(6):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
    print(sum(p.double().sum().item() for p in model.parameters()))


if __name__ == "__main__":
    main()
