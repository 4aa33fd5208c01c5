"""The phases of a training step, and the epochs of the pass that times them."""

from typing import Final

from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.engines import ENGINES
from xorbench.xor.matrix.recipe import Recipe

PHASES: Final = ("data", "copy", "forward", "backward", "optimizer")
MOST_MARKED: Final = 3  # maximum epochs with timed phases per process
EPOCHS_PER_MARKED: Final = 30  # of the recipe, so that the pass is about 6% of the timed epochs
MOST_SLOTS: Final = 100  # maximum slots for the steps of an epoch


def schedule(recipe: Recipe) -> list[bool]:
    """Whether each epoch of the pass is marked: the first is not, then they alternate."""
    marked = min(MOST_MARKED, max(1, recipe.epochs // EPOCHS_PER_MARKED))
    return [False, True, *[False, True] * (marked - 1)] if marked > 1 else [False, True, False]


def inseparable(case: Case) -> str:
    """The reason why the phases of this case cannot be timed; empty if they can."""
    reason = ENGINES[case.engine].inseparable
    return f"not separable: {reason}" if reason else ""


def pass_epochs(recipe: Recipe, case: Case) -> int:
    """The number of epochs of the pass for this case in each process."""
    return 0 if inseparable(case) else len(schedule(recipe))
