"""Correct: a model compiled in place with `Module.compile`, as one graph.

See https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html
"""

import torch
from torch import nn


class Net(nn.Module):
    """Two layers with dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.second = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map."""
        hidden = nn.functional.dropout(nn.functional.silu(self.first(x)), 0.1, self.training)
        return self.second(hidden)


def main() -> None:
    """Train."""
    torch.manual_seed(0)
    inputs = torch.randn(32, 8)
    targets = torch.randint(0, 3, (32,))
    model = Net()
    model.compile(fullgraph=True, backend="aot_eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
    print(sum(p.double().sum().item() for p in model.parameters()))


if __name__ == "__main__":
    main()
