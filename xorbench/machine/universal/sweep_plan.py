"""The plan of a sweep: one universal recipe, many seeds, in chunks. Standard library only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from xorbench.errors import BadOption
from xorbench.options import parse
from xorbench.xor.matrix.case import device_type
from xorbench.xor.matrix.recipe import RECIPE_OPTIONS, UNIVERSAL_VISITS, Recipe, require_batches

BACKENDS: Final = ("numba", "triton", "torch", "numpy")
"""Names of the backends, fastest first; `machine.universal.backends` has one row per name."""
FOR_CPU: Final = ("numba", "torch")
FOR_DEVICES: Final = ("triton", "torch")
"""Default backends: the first available one is used."""
CPU_ONLY: Final = ("numba", "numpy")
RECIPE_FIELDS: Final = ("train_size", "test_size", "std", "lr", "epochs")
"""The fields of a recipe that the universal training uses."""
SWEEP_OPTIONS: Final = tuple(row for row in RECIPE_OPTIONS if row.field in RECIPE_FIELDS)

LARGEST_SEED: Final = 2**31 - 1
MOST_TRAININGS: Final = 2**24
MOST_POINTS: Final = 1_000_000
LARGEST_CHUNK: Final = 65_536

# Visits of points, summed over the models of a chunk, that take about one or two seconds.
_VISITS: Final = {"numba": 2**28, "triton": 2**22, "torch": 2**26, "numpy": 2**25}
_ACCELERATOR_VISITS: Final = 2**30
_POINTS: Final = 2**25  # maximum in memory
_LANES: Final = 16  # chunks are multiples of the vector width


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk: consecutive seeds at one batch size."""

    batch_size: int
    first_seed: int
    count: int


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The trainings of a sweep. Raises `BadOption` for an invalid plan.

    `seeds` are inclusive ascending ranges; `chunk` is the number of seeds trained at once.
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
        """Number of seeds."""
        return sum(last - first + 1 for first, last in self.seeds)

    @property
    def trainings(self) -> int:
        """Number of trainings over all batch sizes."""
        return len(self.batch_sizes) * self.seeds_count

    def pieces(self) -> Iterator[Piece]:
        """Every chunk in training order."""
        for batch_size in self.batch_sizes:
            for first, last in self.seeds:
                for seed in range(first, last + 1, self.chunk):
                    yield Piece(batch_size, seed, min(self.chunk, last + 1 - seed))

    def holds(self, seed: int) -> bool:
        """Whether the sweep contains the seed."""
        return any(first <= seed <= last for first, last in self.seeds)

    def universal(self, batch_size: int) -> dict[str, Any]:
        """The fields of the universal recipe at a batch size."""
        return universal(self.recipe, batch_size, self.drop_last)


def universal(recipe: Recipe, batch_size: int, drop_last: bool) -> dict[str, Any]:
    """The fields of the universal recipe for a recipe."""
    fields = {name: getattr(recipe, name) for name in RECIPE_FIELDS}
    return {**fields, "batch_size": batch_size, "drop_last": drop_last}


def require_trainable(recipe: Recipe, batch_sizes: tuple[int, ...], drop_last: bool) -> None:
    """Raise `BadOption` for a recipe without a full batch, or too large for a sweep."""
    for option, size in (("--train-size", recipe.train_size), ("--test-size", recipe.test_size)):
        if size > MOST_POINTS:
            raise BadOption(f"{option}: {size:,} points exceed a sweep's limit of {MOST_POINTS:,}")
    if recipe.epochs * recipe.train_size > UNIVERSAL_VISITS:
        raise BadOption(
            f"--epochs: {recipe.epochs:,} of {recipe.train_size:,} points exceed a sweep's limit of"
            f" {UNIVERSAL_VISITS:,} visits",
            "use fewer epochs or points",
        )
    for batch_size in batch_sizes:
        require_batches(recipe, batch_size, drop_last)


def require_few_enough(trainings: int) -> None:
    """Raise `BadOption` for more trainings than a sweep may have."""
    if trainings > MOST_TRAININGS:
        raise BadOption(
            f"--seeds: {trainings:,} trainings exceed the limit of {MOST_TRAININGS:,}",
            "divide the seeds among several sweeps",
        )


def read_seeds(option: str, text: str) -> tuple[tuple[int, int], ...]:
    """Inclusive ascending ranges of seeds from text such as `0-65535,70000`."""
    ranges = parse.ranges(option, text, 0, LARGEST_SEED)
    return tuple((piece.start, piece.stop - 1) for piece in ranges)


def require_backend(backend: str | None, device: str) -> None:
    """Raise `BadOption` if the backend does not support the device; None is any backend."""
    if device != "cpu" and backend in CPU_ONLY:
        raise BadOption(
            f"--device: the {backend} backend supports only cpu, got {device}",
            f"use --backend {' or '.join(FOR_DEVICES)}",
        )


def default_chunk(recipe: Recipe, backend: str, device: str) -> int:
    """The default number of seeds per chunk, small enough that an interrupt loses little.

    The chunk size never changes a result.
    """
    accelerated = device_type(device) != "cpu"
    visits = _ACCELERATOR_VISITS if accelerated else _VISITS[backend]
    models = min(
        visits // (recipe.epochs * (recipe.train_size + recipe.test_size)),
        _POINTS // max(recipe.train_size, recipe.test_size),
        LARGEST_CHUNK,
    )
    return max(models // _LANES, 1) * _LANES
