"""A small network learns the continuous XOR: the training of `xorbench run`, without xorbench.

python xor.py              train, evaluate, and save the weights in xor.pt
python xor.py --resume     continue after the last saved epoch

The tutorial (docs/tutorial.md) explains it step by step.
"""

import argparse
import hashlib
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def stream(seed: int, name: str) -> int:
    """The seed of one random stream, so that points, weights and order are independent."""
    digest = hashlib.sha256(f"xorbench-1/{name}/{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class XORDataset(Dataset):
    """Noisy corners of the unit square; the label is the XOR of the two bits of the corner."""

    def __init__(self, size: int, seed: int, std: float = 0.1) -> None:
        generator = torch.Generator().manual_seed(seed)
        corners = torch.randint(0, 2, (size, 2), dtype=torch.float32, generator=generator)
        self.labels = (corners[:, 0] != corners[:, 1]).long()
        self.points = corners + std * torch.randn((size, 2), generator=generator)

    def __len__(self) -> int:
        """The number of points."""
        return len(self.points)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A point and its label."""
        return self.points[index], self.labels[index]


class SimpleClassifier(nn.Module):
    """Two linear layers with a tanh between them."""

    def __init__(self, inputs: int = 2, hidden: int = 4, outputs: int = 1) -> None:
        super().__init__()
        self.layer1 = nn.Linear(inputs, hidden)
        self.act_fn = nn.Tanh()
        self.layer2 = nn.Linear(hidden, outputs)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """The logits of label 1, one per point."""
        return self.layer2(self.act_fn(self.layer1(points)))


def make_loader(
    data: XORDataset, batch_size: int, drop_last: bool, generator: torch.Generator
) -> DataLoader:
    """Batches of the training points, in a new order for each epoch."""
    return DataLoader(
        data, batch_size=batch_size, shuffle=True, drop_last=drop_last, generator=generator
    )


def train_epoch(
    model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer, device: torch.device
) -> torch.Tensor:
    """Train one epoch, and return the loss of its last step."""
    loss_module = nn.BCEWithLogitsLoss()
    model.train()
    for points, labels in loader:
        points, labels = points.to(device), labels.to(device)
        logits = model(points).squeeze(dim=1)
        loss = loss_module(logits, labels.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.detach()


@torch.no_grad()
def evaluate(model: nn.Module, data: XORDataset, device: torch.device) -> int:
    """Count the points with the correct label."""
    model.eval()
    correct = 0
    for points, labels in DataLoader(data, batch_size=128, shuffle=False):
        logits = model(points.to(device)).squeeze(dim=1)
        predictions = (torch.sigmoid(logits) >= 0.5).long()
        correct += (predictions.cpu() == labels).sum().item()
    return correct


def save_checkpoint(
    path: Path,
    epoch: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    shuffle: torch.Generator,
) -> None:
    """Save everything that the next epoch depends on, including the generator of the order."""
    state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "shuffle": shuffle.get_state()}, f"{path}.new")
    Path(f"{path}.new").replace(path)  # a kill while writing leaves the last checkpoint intact


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, shuffle: torch.Generator
) -> int:
    """Restore a checkpoint, and return the number of its trained epochs."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    shuffle.set_state(state["shuffle"])
    return state["epoch"]


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=default)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--drop-last", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, default=Path("xor.pt"))
    parser.add_argument("--checkpoint", type=Path, default=Path("xor-checkpoint.pt"))
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint")
    return parser.parse_args()


def main() -> None:
    """Train, evaluate, save and load."""
    args = arguments()
    torch.set_num_threads(1)  # the network is too small to be split over threads
    train_set = XORDataset(2500, seed=stream(args.seed, "train"))
    test_set = XORDataset(500, seed=stream(args.seed, "test"))
    point, label = train_set[0]
    print(f"{len(train_set)} training points, {len(test_set)} test points")
    print(f"first point ({point[0]:.3f}, {point[1]:.3f}), label {label}")

    torch.manual_seed(stream(args.seed, "init"))
    model = SimpleClassifier().to(args.device)
    print(model)
    for name, parameter in model.named_parameters():
        print(f"{name:13} {tuple(parameter.shape)}, {parameter.numel()} numbers")

    shuffle = torch.Generator().manual_seed(stream(args.seed, "shuffle"))
    loader = make_loader(train_set, args.batch_size, args.drop_last, shuffle)
    print(f"{len(loader)} batches of {args.batch_size} points per epoch")

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    start = load_checkpoint(args.checkpoint, model, optimizer, shuffle) if args.resume else 0
    for epoch in range(start, args.epochs):
        loss = train_epoch(model, loader, optimizer, args.device)
        save_checkpoint(args.checkpoint, epoch + 1, model, optimizer, shuffle)
        if epoch % 20 == 0 or epoch == args.epochs - 1:
            print(f"epoch {epoch:2}: loss {loss:.3f}")

    correct = evaluate(model, test_set, args.device)
    print(f"{correct} of {len(test_set)} test points correct")

    torch.save(model.state_dict(), args.save)
    loaded = SimpleClassifier().to(args.device)
    loaded.load_state_dict(torch.load(args.save, map_location=args.device, weights_only=True))
    correct = evaluate(loaded, test_set, args.device)
    print(f"{correct} of {len(test_set)} test points correct after loading {args.save}")


if __name__ == "__main__":
    main()
