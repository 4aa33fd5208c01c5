"""The network of the tutorial written in other ways, and a plain loop to train any of them."""

from collections.abc import Iterable
from typing import Final, Protocol

import torch
from torch import Tensor, nn

from xorbench.plan.recipe import Recipe
from xorbench.workload.seeding import forked, generator
from xorbench.workload.xor import SimpleClassifier, XorPoints, loss_of, make_points

RECIPE: Final = Recipe()
SEED: Final = 0


class MakeNetwork(Protocol):
    """Makes a fresh network, (n, 2) points to (n, 1) logits."""

    def __call__(self) -> nn.Module:
        """The network."""


def simple() -> SimpleClassifier:
    """The network itself: two inputs, four hidden units, one output."""
    return SimpleClassifier(2, RECIPE.hidden, 1)


class HiddenInAList(nn.Module):
    """The hidden layer stands in a plain Python list."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: Iterable[nn.Module] = [nn.Linear(2, RECIPE.hidden), nn.Tanh()]
        self.output = nn.Linear(RECIPE.hidden, 1)

    def forward(self, points: Tensor) -> Tensor:
        """Logits (n, 1) of points (n, 2)."""
        for layer in self.hidden:
            points = layer(points)
        logits: Tensor = self.output(points)
        return logits


class HiddenInAModuleList(HiddenInAList):
    """The hidden layer stands in an `nn.ModuleList`."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(self.hidden)


class HiddenInAModuleDict(HiddenInAList):
    """The hidden layer stands in an `nn.ModuleDict`."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.ModuleDict(dict(zip(("linear", "tanh"), self.hidden, strict=True)))
        self.layers, self.hidden = layers, layers.values()


class HiddenInASequential(HiddenInAList):
    """The hidden layer stands in an `nn.Sequential`."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(*self.hidden)


class ListClassifier(nn.Module):
    """The network with its layers in a list, as tutorials on deeper networks write it."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Linear(2, RECIPE.hidden), nn.Tanh(), nn.Linear(RECIPE.hidden, 1)]
        self.list_layer = nn.ModuleList(layers)

    def forward(self, points: Tensor) -> Tensor:
        """Logits (n, 1) of points (n, 2)."""
        for layer in self.list_layer:
            points = layer(points)
        return points


class WithDropout(nn.Module):
    """The network with half of its hidden units dropped at random while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.network = simple()
        self.dropout = nn.Dropout(0.5)

    def forward(self, points: Tensor) -> Tensor:
        """Logits (n, 1) of points (n, 2)."""
        hidden = self.dropout(self.network.act_fn(self.network.layer1(points)))
        logits: Tensor = self.network.layer2(hidden)
        return logits


def linear() -> nn.Module:
    """No hidden layer: a straight line between the answers."""
    return nn.Linear(2, 1)


def points(name: str = "test") -> XorPoints:
    """The recipe's train or test points of seed 0."""
    size = RECIPE.train_size if name == "train" else RECIPE.test_size
    return make_points(size, RECIPE.std, SEED, name)


def fresh(make: MakeNetwork) -> nn.Module:
    """A network whose weights come from the stream `init` of seed 0."""
    with forked(SEED, "init"):
        return make()


def train(network: nn.Module, epochs: int, batch_size: int = 128) -> None:
    """Plain SGD over shuffled batches of the train points, short ones left out."""
    data, order = points("train"), generator(SEED, "shuffle")
    optimizer = torch.optim.SGD(network.parameters(), lr=RECIPE.lr)
    for _ in range(epochs):
        for batch in torch.randperm(len(data), generator=order).split(batch_size):
            if len(batch) == batch_size:
                optimizer.zero_grad()
                loss_of(network(data.points[batch]), data.labels[batch]).backward()
                optimizer.step()
