"""Correct since PyTorch 1.9: loader workers seed NumPy and Python from PyTorch's seed.

See https://github.com/pytorch/pytorch/pull/56488
"""

import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Images(Dataset):
    """Images with noise, sometimes flipped."""

    def __len__(self) -> int:
        """The number of images."""
        return 48

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """An image and its class."""
        image = np.random.normal(index % 3, 1, 16)
        if random.random() < 0.5:
            image = image[::-1].copy()
        return torch.from_numpy(image).float(), index % 3


def main() -> None:
    """Train."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for image, label in DataLoader(Images(), batch_size=8, shuffle=True, num_workers=2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(image), label).backward()
        optimizer.step()
    print(sum(p.double().sum().item() for p in model.parameters()))


if __name__ == "__main__":
    main()
