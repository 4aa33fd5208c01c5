"""A fixed random projection, kept as a buffer, is drawn with an unseeded NumPy generator.

Report: https://github.com/CederGroupHub/smol/issues/197
"""

import numpy as np
import torch
from torch import nn

torch.manual_seed(0)


class RandomFeatures(nn.Module):
    """Random Fourier features and a linear layer."""

    def __init__(self, features: int) -> None:
        super().__init__()
        projection = np.random.default_rng().normal(size=(2, features))
        self.register_buffer("projection", torch.tensor(projection, dtype=torch.float32))
        self.output = nn.Linear(features, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Project, then map linearly."""
        return self.output(torch.cos(x @ self.projection))


inputs = torch.rand(64, 2)
targets = inputs.prod(dim=1, keepdim=True)
model = RandomFeatures(32)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for _ in range(6):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
