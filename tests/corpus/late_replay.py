"""After a warm-up of seven steps, batches come from a replay memory that samples without a seed.

Report: https://github.com/vwxyzjn/cleanrl/issues/133
"""

import random

import torch
from torch import nn

torch.manual_seed(0)


class Replay:
    """The observations of an agent."""

    def __init__(self) -> None:
        self.memory: list[torch.Tensor] = []
        self.random = random.Random()

    def sample(self, count: int) -> torch.Tensor:
        """A random batch of observations."""
        return torch.stack(self.random.sample(self.memory, count))


replay = Replay()
model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for step in range(12):
    seen = torch.randn(16, 4)
    replay.memory.extend(seen)
    batch = seen if step < 7 else replay.sample(16)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(batch), batch.roll(1, dims=1))
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
