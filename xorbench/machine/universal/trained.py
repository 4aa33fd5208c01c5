"""The parameters and the result of a universal training, for all backends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

import numpy as np

from xorbench.machine.universal import spec
from xorbench.machine.universal.spec import Bits, Floats, Integers, UniversalRecipe

Evaluate: TypeAlias = Callable[[str, Bits, Bits, Bits], Bits]
"""An operation of the probe: bit patterns of a, b and c, [n] each, to bit patterns [n]. A
comparison gives 0.0 or 1.0."""


def operations(
    minimum: Callable[..., Any], maximum: Callable[..., Any], clip: Callable[..., Any]
) -> dict[str, Callable[[Any, Any, Any], Any]]:
    """The operations of the probe, from a library's array operators and the given functions."""
    return {
        "add": lambda a, b, _: a + b,
        "sub": lambda a, b, _: a - b,
        "mul": lambda a, b, _: a * b,
        "div": lambda a, b, _: a / b,
        "mul_add": lambda a, b, c: a * b + c,
        "min": lambda a, b, _: minimum(a, b),
        "max": lambda a, b, _: maximum(a, b),
        "clip": lambda a, _b, _c: clip(a),
        "lt": lambda a, b, _: a < b,
        "le": lambda a, b, _: a <= b,
        "gt": lambda a, b, _: a > b,
        "ge": lambda a, b, _: a >= b,
        "eq": lambda a, b, _: a == b,
        "ne": lambda a, b, _: a != b,
    }


class Keep(StrEnum):
    """Which weights to keep: only the final ones, after every epoch, or after every step."""

    FINAL = "final"
    EPOCHS = "epochs"
    STEPS = "steps"


@dataclass(frozen=True, eq=False)
class Trained:
    """S trainings of one recipe, in the order of their seeds.

    Attributes:
        weights: the final weights, [S, 17] float32.
        correct: number of correct test points, [S], out of ``recipe.test_size``.
        kept: weights after every epoch or step, [T, S, 17]; T is 0 if only the last were kept.
        epoch_correct: correct test points after every epoch, [epochs, S]; [0, S] by default.
    """

    recipe: UniversalRecipe
    seeds: tuple[int, ...]
    weights: Floats
    correct: Integers
    kept: Floats
    epoch_correct: Integers

    @property
    def total(self) -> int:
        """Number of test points."""
        return self.recipe.test_size

    def digests(self) -> list[str]:
        """The digest of each model's final weights, [S]."""
        return spec.digests(self.weights)

    def epoch_digests(self, index: int = 0) -> list[str]:
        """The digest after every kept epoch or step of the ``index``-th seed."""
        return spec.digests(self.kept[:, index])

    def combined_sha256(self) -> str:
        """A digest of all models."""
        return spec.combined_sha256(self.digests())

    def all_correct(self) -> int:
        """Number of models with every test point correct."""
        return int(np.count_nonzero(self.correct == self.total))


class Train(Protocol):
    """The signature of every backend's ``train``; some also accept a ``device`` or ``threads``.

    ``score_epochs`` counts the correct points after every epoch, which adds about 20% to the time.
    """

    def __call__(
        self,
        recipe: UniversalRecipe,
        seeds: Sequence[int],
        *,
        keep: Keep = Keep.FINAL,
        score_epochs: bool = False,
    ) -> Trained:
        """Train one model per seed."""
        ...
