"""The XOR problem: points, network, loss and score (workload.md §1-§3)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training.seeding import forked, generator

Batch = tuple[Tensor, Tensor]


class XorPoints(Dataset[Batch]):
    """Noisy corners of the unit square: points (n, 2) float32, labels (n,) int64 of 0 and 1."""

    def __init__(self, points: Tensor, labels: Tensor) -> None:
        self.points = points
        self.labels = labels

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """All points and labels, one row per sample."""
        return self.points, self.labels

    def to(self, dtype: torch.dtype) -> "XorPoints":
        """The same points as another floating-point type."""
        return XorPoints(self.points.to(dtype), self.labels)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> Batch:
        return self.points[index], self.labels[index]


def make_points(size: int, std: float, seed: int, name: str) -> XorPoints:
    """Generate `size` points from the stream `name`: bits, labels from the bits, then noise."""
    draws = generator(seed, name)
    points = torch.randint(0, 2, (size, 2), dtype=torch.float32, generator=draws)
    labels = (points.sum(dim=1) == 1).to(torch.long)
    points += std * torch.randn((size, 2), generator=draws)
    return XorPoints(points, labels)


class SimpleClassifier(nn.Module):
    """Two linear layers with tanh between them, from (n, 2) points to (n, 1) logits."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(inputs, hidden)
        self.act_fn = nn.Tanh()
        self.layer2 = nn.Linear(hidden, outputs)

    def forward(self, points: Tensor) -> Tensor:
        """Logits (n, 1) of points (n, 2)."""
        logits: Tensor = self.layer2(self.act_fn(self.layer1(points)))
        return logits


def make_model(hidden: int, seed: int) -> SimpleClassifier:
    """A new network on the CPU with weights from the stream `init`."""
    with forked(seed, "init"):
        return SimpleClassifier(2, hidden, 1)


_cross_entropy = nn.BCEWithLogitsLoss()


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits (n, 1) and integer labels (n,): a scalar."""
    loss: Tensor = _cross_entropy(logits.squeeze(1), labels.to(logits.dtype))
    return loss


@dataclass(frozen=True, slots=True)
class Score:
    """The number of correct points, and every prediction in the order of the points."""

    correct: int
    total: int
    predictions: str  # one character per point: "1" or "0"
    not_finite: int = 0  # number of infinite or NaN outputs


@torch.no_grad()
def score(model: nn.Module, data: XorPoints, batch_size: int, device: torch.device) -> Score:
    """Evaluate every point once in order; the prediction is 1 if the sigmoid is at least 0.5."""
    was_training = model.training
    model.eval()
    answers, not_finite = [], 0
    for points, _ in DataLoader(data, batch_size=batch_size, shuffle=False, drop_last=False):
        logits = model(points.to(device)).squeeze(1)
        answers.append((torch.sigmoid(logits) >= 0.5).long().cpu())
        not_finite += int((~torch.isfinite(logits)).sum())
    model.train(was_training)
    predicted = torch.cat(answers)
    correct = int((predicted == data.labels).sum())
    return Score(correct, len(data), "".join(map(str, predicted.tolist())), not_finite)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of a training: train and test points, and the initial network."""

    train: XorPoints
    test: XorPoints
    model: SimpleClassifier

    def to(self, dtype: torch.dtype) -> "Inputs":
        """The same numbers as another floating-point type."""
        if dtype == torch.float32:
            return self
        return Inputs(self.train.to(dtype), self.test.to(dtype), self.model.to(dtype))

    def entries(self) -> list[tuple[str, Tensor]]:
        """Every tensor by name, for the digest of the inputs."""
        data = (("train", self.train), ("test", self.test))
        tensors = [(f"{n}.points", d.points) for n, d in data]
        tensors += [(f"{n}.labels", d.labels) for n, d in data]
        return tensors + list(self.model.state_dict().items())


def make_inputs(recipe: Recipe, seed: int) -> Inputs:
    """Generate the inputs of a training, each part from its own stream."""
    return Inputs(
        make_points(recipe.train_size, recipe.std, seed, "train"),
        make_points(recipe.test_size, recipe.std, seed, "test"),
        make_model(recipe.hidden, seed),
    )
