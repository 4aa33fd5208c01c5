"""A sweep: one recipe of the universal training, many seeds, in chunks. Standard library only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from xorbench.errors import BadOption
from xorbench.options import parse
from xorbench.xor.matrix.case import device_type
from xorbench.xor.matrix.recipe import RECIPE_OPTIONS, UNIVERSAL_VISITS, Recipe, require_batches

BACKENDS: Final = ("numba", "triton", "torch", "numpy")
"""Their names, the fastest first; `machine.universal.backends` holds one row a name."""
FOR_CPU: Final = ("numba", "torch")
FOR_DEVICES: Final = ("triton", "torch")
"""What is taken where no backend is named: the first of them that can be used."""
CPU_ALONE: Final = ("numba", "numpy")
RECIPE_FIELDS: Final = ("train_size", "test_size", "std", "lr", "epochs")
"""What of a recipe the universal training leaves open."""
SWEEP_OPTIONS: Final = tuple(row for row in RECIPE_OPTIONS if row.field in RECIPE_FIELDS)

LARGEST_SEED: Final = 2**31 - 1
MOST_TRAININGS: Final = 2**24
MOST_POINTS: Final = 1_000_000
LARGEST_CHUNK: Final = 65_536

# What a chunk takes about a second or two for: visits of points, all its models together.
_VISITS: Final = {"numba": 2**28, "triton": 2**22, "torch": 2**26, "numpy": 2**25}
_ACCELERATOR_VISITS: Final = 2**30
_POINTS: Final = 2**25  # held at once
_LANES: Final = 16  # chunks are multiples of them, as models are trained side by side


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk to be trained: consecutive seeds at one batch size."""

    batch_size: int
    first_seed: int
    count: int


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a sweep trains; raises `BadOption` where it cannot be.

    `seeds` are inclusive ranges, ascending; `chunk` is how many seeds are trained at once.
    """

    recipe: Recipe
    batch_sizes: tuple[int, ...]
    drop_last: bool
    seeds: tuple[tuple[int, int], ...]
    chunk: int

    def __post_init__(self) -> None:
        require_trainable(self.recipe, self.batch_sizes, self.drop_last)
        require_few_enough(self.trainings)
        parse.integer("--chunk", str(self.chunk), 1, LARGEST_CHUNK)

    @property
    def seeds_count(self) -> int:
        """How many seeds there are."""
        return sum(last - first + 1 for first, last in self.seeds)

    @property
    def trainings(self) -> int:
        """How many trainings there are, all batch sizes together."""
        return len(self.batch_sizes) * self.seeds_count

    def pieces(self) -> Iterator[Piece]:
        """Every chunk in the order in which they are trained."""
        for batch_size in self.batch_sizes:
            for first, last in self.seeds:
                for seed in range(first, last + 1, self.chunk):
                    yield Piece(batch_size, seed, min(self.chunk, last + 1 - seed))

    def holds(self, seed: int) -> bool:
        """Whether the seed is one of the sweep's."""
        return any(first <= seed <= last for first, last in self.seeds)

    def universal(self, batch_size: int) -> dict[str, Any]:
        """The fields of the universal recipe at a batch size."""
        return universal(self.recipe, batch_size, self.drop_last)


def universal(recipe: Recipe, batch_size: int, drop_last: bool) -> dict[str, Any]:
    """The fields of the universal recipe that a recipe comes to."""
    fields = {name: getattr(recipe, name) for name in RECIPE_FIELDS}
    return {**fields, "batch_size": batch_size, "drop_last": drop_last}


def require_trainable(recipe: Recipe, batch_sizes: tuple[int, ...], drop_last: bool) -> None:
    """Raise `BadOption` for a recipe that has no batch, or that is too large to be swept."""
    for option, size in (("--train-size", recipe.train_size), ("--test-size", recipe.test_size)):
        if size > MOST_POINTS:
            raise BadOption(f"{option}: {size:,} points are more than a sweep's {MOST_POINTS:,}")
    if recipe.epochs * recipe.train_size > UNIVERSAL_VISITS:
        raise BadOption(
            f"--epochs: {recipe.epochs:,} of {recipe.train_size:,} points are more than a sweep's"
            f" {UNIVERSAL_VISITS:,} visits",
            "take fewer epochs or points",
        )
    for batch_size in batch_sizes:
        require_batches(recipe, batch_size, drop_last)


def require_few_enough(trainings: int) -> None:
    """Raise `BadOption` for more trainings than one sweep keeps."""
    if trainings > MOST_TRAININGS:
        raise BadOption(
            f"--seeds: {trainings:,} trainings are more than {MOST_TRAININGS:,}",
            "sweep them in parts",
        )


def read_seeds(option: str, text: str) -> tuple[tuple[int, int], ...]:
    """Inclusive ranges of seeds, ascending, from text such as `0-65535,70000`."""
    ranges = parse.ranges(option, text, 0, LARGEST_SEED)
    return tuple((piece.start, piece.stop - 1) for piece in ranges)


def require_backend(backend: str | None, device: str) -> None:
    """Raise `BadOption` where the backend does not know the device; None is any backend."""
    if device != "cpu" and backend in CPU_ALONE:
        raise BadOption(
            f"--device: the {backend} backend knows cpu alone, got {device}",
            f"take --backend {' or '.join(FOR_DEVICES)}",
        )


def default_chunk(recipe: Recipe, backend: str, device: str) -> int:
    """How many seeds to train at once, so that little is lost at a kill and little is waited for.

    It never changes a result.
    """
    accelerated = device_type(device) != "cpu"
    visits = _ACCELERATOR_VISITS if accelerated else _VISITS[backend]
    models = min(
        visits // (recipe.epochs * (recipe.train_size + recipe.test_size)),
        _POINTS // max(recipe.train_size, recipe.test_size),
        LARGEST_CHUNK,
    )
    return max(models // _LANES, 1) * _LANES
