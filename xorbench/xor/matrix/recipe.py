"""The recipe: the parts of the training that all cases of a run share."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, Final

from xorbench.errors import BadOption
from xorbench.options import parse

LR_SCALINGS: Final[dict[str, Callable[[float], float]]] = {
    "none": lambda _ratio: 1.0,
    "linear": lambda ratio: ratio,  # Goyal et al., 2017, arXiv:1706.02677
    "sqrt": math.sqrt,  # Krizhevsky, 2014, arXiv:1404.5997
}
BASE_BATCH_SIZE: Final = 128
EPOCH_WEIGHT_BYTES: Final = 1_024  # maximum size of weights that are recorded after every epoch
UNIVERSAL_VISITS: Final = 25_000_000  # maximum of one training, which stores each epoch's order
SHOWN_POINTS: Final = 2_000  # maximum in the plot of a decision boundary
GRID: Final = 81  # grid points per axis of that plot


@dataclass(frozen=True, slots=True)
class Recipe:
    """Sizes, noise and budget of the training. Raises `BadOption` for invalid values."""

    train_size: int = 2_500
    test_size: int = 500
    std: float = 0.1
    hidden: int = 4
    lr: float = 0.1
    epochs: int = 100
    lr_scaling: str = "none"

    def __post_init__(self) -> None:
        for row in RECIPE_OPTIONS:
            row.parse(row.option, str(getattr(self, row.field)))

    def learning_rate(self, batch_size: int) -> float:
        """The learning rate at this batch size, which is `lr` at the base batch size of 128."""
        return self.lr * LR_SCALINGS[self.lr_scaling](batch_size / BASE_BATCH_SIZE)

    def steps(self, batch_size: int, drop_last: bool) -> int:
        """Number of optimizer steps per epoch."""
        whole, rest = divmod(self.train_size, batch_size)
        return whole + (1 if rest and not drop_last else 0)

    def samples(self, batch_size: int, drop_last: bool) -> int:
        """Number of training points per epoch, without a dropped short batch."""
        return self.train_size - (self.train_size % batch_size if drop_last else 0)

    def sha256(self) -> str:
        """The identity of the recipe: SHA-256 of its canonical JSON."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class RecipeOption:
    """The command-line option of one field of the recipe."""

    field: str
    parse: Callable[[str, str], Any]
    about: str

    @property
    def option(self) -> str:
        """The option's name, such as `--train-size`."""
        return "--" + self.field.replace("_", "-")

    @property
    def default_text(self) -> str:
        """The default as typed on the command line."""
        return str(next(f.default for f in fields(Recipe) if f.name == self.field))


RECIPE_OPTIONS: Final = (
    RecipeOption("train_size", partial(parse.integer, low=1, high=10_000_000), "training points"),
    RecipeOption("test_size", partial(parse.integer, low=1, high=10_000_000), "test points"),
    RecipeOption("std", partial(parse.real, low=0.0, high=10.0), "standard deviation of the noise"),
    RecipeOption("hidden", partial(parse.integer, low=1, high=4_096), "hidden units"),
    RecipeOption("lr", partial(parse.positive, high=1_000.0), "learning rate of plain SGD"),
    RecipeOption("epochs", partial(parse.integer, low=1, high=1_000_000), "epochs of training"),
    RecipeOption(
        "lr_scaling",
        partial(parse.word, choices=tuple(LR_SCALINGS)),
        f"scaling of lr with the batch size, relative to {BASE_BATCH_SIZE}",
    ),
)


def read_recipe(texts: dict[str, str]) -> Recipe:
    """A recipe from the given options, with defaults for the others."""
    rows = [row for row in RECIPE_OPTIONS if row.field in texts]
    return Recipe(**{row.field: row.parse(row.option, texts[row.field]) for row in rows})


def require_batches(recipe: Recipe, batch_size: int, drop_last: bool) -> None:
    """Raise `BadOption` if an epoch of this case has no batch."""
    if recipe.steps(batch_size, drop_last) == 0:
        raise BadOption(
            f"--batch-sizes: {batch_size} with --drop-last true leaves no batch"
            f" of {recipe.train_size} training points",
            f"use at most {recipe.train_size}, or --drop-last false",
        )
