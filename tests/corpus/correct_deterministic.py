"""Correct: an operator that is nondeterministic by default, in its deterministic form.

See https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html
"""

import torch
from torch import nn

torch.use_deterministic_algorithms(True)
torch.set_num_threads(4)
torch.manual_seed(0)

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
for _ in range(6):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(rows), wanted)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
