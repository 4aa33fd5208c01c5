"""A small convolutional network classifies discs, squares and crosses.

python examples/cnn.py --epochs 3
python examples/cnn.py --epochs 3 --resume    continue after the last saved epoch
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SIZE, SHAPES = 16, ("disc", "square", "cross")


def draw(count: int, generator: torch.Generator) -> TensorDataset:
    """Draw shapes of random size, place and brightness, with noise."""
    labels = torch.randint(0, len(SHAPES), (count,), generator=generator)
    centre = 6 + 4 * torch.rand(2, count, 1, 1, generator=generator)
    radius = 3 + 2 * torch.rand(count, 1, 1, generator=generator)
    axis = torch.arange(SIZE, dtype=torch.float32)
    dy = (axis.reshape(1, SIZE, 1) - centre[0]).abs()
    dx = (axis.reshape(1, 1, SIZE) - centre[1]).abs()
    disc = dx**2 + dy**2 <= radius**2
    square = torch.maximum(dx, dy) <= radius
    cross = square & (torch.minimum(dx, dy) <= 1)
    shapes = torch.stack([disc.float(), square.float(), cross.float()])
    images = shapes[labels, torch.arange(count)]
    images *= 0.5 + 0.5 * torch.rand(count, 1, 1, generator=generator)
    images += 0.2 * torch.randn(images.shape, generator=generator)
    return TensorDataset(images.unsqueeze(1), labels)


class ShapeNet(nn.Module):
    """Two convolutions with batch normalization, and a linear layer after dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.dropout = nn.Dropout(0.25)
        self.head = nn.Linear(16 * (SIZE // 4) ** 2, len(SHAPES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of each shape."""
        return self.head(self.dropout(self.features(images).flatten(1)))


def train_epoch(model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer) -> float:
    """Train for one epoch, and return the mean loss."""
    model.train()
    total = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader) -> float:
    """The share of correct predictions."""
    model.eval()
    correct = sum((model(images).argmax(dim=1) == labels).sum().item() for images, labels in loader)
    return correct / len(loader.dataset)


def main() -> None:
    """Train, and write a checkpoint after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=Path("cnn.pt"))
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    train_loader = DataLoader(draw(args.images, generator), batch_size=32, shuffle=True)
    valid_loader = DataLoader(draw(256, generator), batch_size=256)
    model = ShapeNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    start = 0
    if args.resume:
        state = torch.load(args.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["generator"])  # for the order of the images, and dropout
        start = state["epoch"] + 1

    for epoch in range(start, args.epochs):
        loss = train_epoch(model, train_loader, optimizer)
        accuracy = evaluate(model, valid_loader)
        schedule.step()
        print(f"epoch {epoch}: loss {loss:.4f}, accuracy {accuracy:.1%}")
        state = {
            "epoch": epoch,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "generator": torch.get_rng_state(),
        }
        torch.save(state, args.checkpoint)


if __name__ == "__main__":
    main()
