"""PyTorch is seeded, but the data set augments with NumPy's global generator.

Report: https://github.com/albumentations-team/albumentations_examples/pull/23
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(42)


class Digits(Dataset):
    """Small images with noise."""

    def __len__(self) -> int:
        """The number of images."""
        return 64

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """An image, flipped half of the time, and its class."""
        image = np.outer(np.arange(8), np.arange(8)) * (index % 4) / 49
        if np.random.rand() < 0.5:
            image = image[:, ::-1]
        image = image + np.random.normal(0, 0.1, image.shape)
        return torch.from_numpy(image.astype(np.float32)).flatten(), index % 4


model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for image, label in DataLoader(Digits(), batch_size=8, shuffle=True):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(image), label)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
