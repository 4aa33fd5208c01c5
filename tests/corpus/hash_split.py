"""The hash of a file's name assigns it to training or validation.

Report: https://github.com/python/cpython/issues/84505
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)


class Recordings(Dataset):
    """Recordings of one part of the data."""

    def __init__(self, part: str) -> None:
        names = [f"speaker{i:03}.wav" for i in range(80)]
        valid = {name for name in names if hash(name) % 5 == 0}
        self.names = [name for name in names if (name in valid) == (part == "valid")]

    def __len__(self) -> int:
        """The number of recordings."""
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """A recording and its class."""
        number = int(self.names[index][7:10])
        return torch.sin(torch.arange(16) * number / 10), number % 3


loader = DataLoader(Recordings("train"), batch_size=8, shuffle=False)
model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for step, (wave, label) in enumerate(loader):
    if step == 6:
        break
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(wave), label)
    loss.backward()
    optimizer.step()

print(sum(p.double().sum().item() for p in model.parameters()))
