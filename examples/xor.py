"""A small network learns the continuous XOR, as the well-known tutorial has it.

python examples/xor.py --epochs 100
python examples/xor.py --epochs 100 --resume    go on after the last epoch that was saved
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm


class XORDataset(Dataset):
    """Points near the corners of the unit square; the label is the XOR of the corner."""

    def __init__(self, size: int, std: float = 0.1) -> None:
        data = torch.randint(0, 2, (size, 2), dtype=torch.float32)
        self.label = (data.sum(dim=1) == 1).to(torch.long)
        self.data = data + std * torch.randn(data.shape)

    def __len__(self) -> int:
        """The number of points."""
        return self.data.shape[0]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A point and its label."""
        return self.data[index], self.label[index]


class SimpleClassifier(nn.Module):
    """Two linear layers with a tanh between them."""

    def __init__(self, num_inputs: int, num_hidden: int, num_outputs: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(num_inputs, num_hidden)
        self.act_fn = nn.Tanh()
        self.linear2 = nn.Linear(num_hidden, num_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logit of label 1."""
        return self.linear2(self.act_fn(self.linear1(x)))


def save_checkpoint(
    path: Path, epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Save what the next epoch depends on; the generator decides the order of its batches."""
    state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "generator": torch.get_rng_state()}, f"{path}.new")
    Path(f"{path}.new").replace(path)  # a kill while it is written leaves the last one whole


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the same, and return the epoch to go on with."""
    state = torch.load(path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["generator"])
    return state["epoch"]


def train_model(
    model: nn.Module, loader: DataLoader, epochs: int, checkpoint: Path, resume: bool
) -> None:
    """Train with stochastic gradient descent, and save after each epoch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss_module = nn.BCEWithLogitsLoss()
    model.train()
    start = load_checkpoint(checkpoint, model, optimizer) if resume else 0
    progress = tqdm(range(start, epochs))
    for epoch in progress:
        for data_inputs, data_labels in loader:
            preds = model(data_inputs).squeeze(dim=1)
            loss = loss_module(preds, data_labels.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        save_checkpoint(checkpoint, epoch + 1, model, optimizer)
        progress.set_description(f"loss {loss.item():.4f}")


@torch.no_grad()
def eval_model(model: nn.Module, loader: DataLoader) -> float:
    """The share of right answers."""
    model.eval()
    right, total = 0, 0
    for data_inputs, data_labels in loader:
        preds = torch.sigmoid(model(data_inputs).squeeze(dim=1))
        right += ((preds >= 0.5).long() == data_labels).sum().item()
        total += len(data_labels)
    return right / total


def main() -> None:
    """Train, save, load and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--save", type=Path, default=Path("xor.pt"))
    parser.add_argument("--checkpoint", type=Path, default=Path("xor-checkpoint.pt"))
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    model = SimpleClassifier(num_inputs=2, num_hidden=4, num_outputs=1)
    train_loader = DataLoader(XORDataset(2500), batch_size=128, shuffle=True)
    test_loader = DataLoader(XORDataset(500), batch_size=128, shuffle=False)
    train_model(model, train_loader, args.epochs, args.checkpoint, args.resume)
    torch.save(model.state_dict(), args.save)

    loaded = SimpleClassifier(num_inputs=2, num_hidden=4, num_outputs=1)
    loaded.load_state_dict(torch.load(args.save))
    print(f"accuracy {eval_model(loaded, test_loader):.1%}")


if __name__ == "__main__":
    main()
