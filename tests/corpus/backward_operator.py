"""A table is read with `table[rows]`, whose backward pass sums on a CPU by threads in any order.

PyTorch's own operator is nondeterministic here. The forward pass is bitwise identical.

Report: https://github.com/pytorch/pytorch/issues/51366
"""

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(4)

rows = torch.randint(0, 30, (20_000,))
wanted = torch.randn(20_000, 8)


class Table(nn.Module):
    """Vectors to look up."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(30, 8))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """The vectors of some rows."""
        return self.vectors[rows]


model = Table()
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
for _ in range(8):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(rows), wanted)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
