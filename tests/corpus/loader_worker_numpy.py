"""Each loader worker seeds NumPy from the operating system, to avoid identical random numbers.

Report: https://github.com/pytorch/pytorch/issues/5059
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Points(Dataset):
    """Points on a line with noise of NumPy's."""

    def __len__(self) -> int:
        """The number of points."""
        return 48

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A point and its target."""
        x = np.full(4, index / 48) + np.random.normal(0, 0.05, 4)
        return torch.tensor(x, dtype=torch.float32), torch.tensor([index / 24])


def main() -> None:
    """Train."""
    torch.manual_seed(0)
    np.random.seed(0)
    loader = DataLoader(
        Points(), batch_size=8, num_workers=2, worker_init_fn=lambda _: np.random.seed()
    )
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    print(sum(p.double().sum().item() for p in model.parameters()))


if __name__ == "__main__":
    main()
