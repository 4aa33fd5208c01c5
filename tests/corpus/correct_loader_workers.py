"""Correct: two loader workers, a seeded generator, and seeds for Python and NumPy in each.

See https://docs.pytorch.org/docs/stable/notes/randomness.html
"""

import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Points(Dataset):
    """Points with noise from three generators."""

    def __len__(self) -> int:
        """The number of points."""
        return 48

    def __getitem__(self, index: int) -> torch.Tensor:
        """A point."""
        noise = [random.gauss(0, 1), np.random.normal(), torch.randn(()).item()]
        return torch.tensor([index / 48, *noise])


def seed_loader_worker(_: int) -> None:
    """Seed the generators of one loader worker."""
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)


def main() -> None:
    """Train."""
    torch.manual_seed(0)
    loader = DataLoader(
        Points(),
        batch_size=8,
        shuffle=True,
        num_workers=2,
        worker_init_fn=seed_loader_worker,
        generator=torch.Generator().manual_seed(0),
    )
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch), batch[:, :1])
        loss.backward()
        optimizer.step()
    print(sum(p.double().sum().item() for p in model.parameters()))


if __name__ == "__main__":
    main()
