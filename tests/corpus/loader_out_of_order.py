"""The DataLoader returns each batch as soon as a loader worker has it, in any order.

Report: https://github.com/pytorch/pytorch/pull/141833
"""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Files(Dataset):
    """Files that take about equally long to read."""

    def __len__(self) -> int:
        """The number of files."""
        return 160

    def __getitem__(self, index: int) -> torch.Tensor:
        """A file's contents."""
        time.sleep(0.0005)
        return torch.sin(torch.arange(64) * (index + 1) / 10)


def main() -> None:
    """Train."""
    torch.manual_seed(0)
    loader = DataLoader(Files(), batch_size=4, num_workers=2, in_order=False)
    model = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch), batch)
        loss.backward()
        optimizer.step()
    print(sum(p.double().sum().item() for p in model.parameters()))


if __name__ == "__main__":
    main()
