"""At step 5 a plotting helper reseeds PyTorch from the time, and dropout differs from then on.

Report: https://github.com/Gleghorn-Lab/Protify/pull/21
"""

import time

import torch
from torch import nn


def plot(losses: list[float]) -> None:
    """Draw a few points of the curve."""
    torch.manual_seed(time.time_ns() % 2**31)
    chosen = torch.randperm(len(losses))[:3].tolist()
    print("losses", [round(losses[i], 3) for i in sorted(chosen)])


def main() -> None:
    """Train, and plot now and then."""
    torch.manual_seed(0)
    inputs = torch.randn(32, 10)
    targets = inputs.mean(dim=1, keepdim=True)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses: list[float] = []
    for step in range(10):
        if step == 5:
            plot(losses)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(sum(p.double().sum().item() for p in model.parameters()))


if __name__ == "__main__":
    main()
