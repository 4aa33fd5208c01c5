"""The phases of a training step, and how many epochs the pass that times them takes."""

from typing import Final

from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.engines import ENGINES
from xorbench.xor.matrix.recipe import Recipe

PHASES: Final = ("data", "copy", "forward", "backward", "optimizer")
MOST_MARKED: Final = 3  # epochs of the pass whose phases are timed, in each process
EPOCHS_PER_MARKED: Final = 30  # of the recipe: the pass stays at about 6% of the timed epochs
MOST_SLOTS: Final = 100  # in which the steps of an epoch are recorded


def schedule(recipe: Recipe) -> list[bool]:
    """Whether each epoch of the pass is marked: not the first, then marked and unmarked in turn."""
    marked = min(MOST_MARKED, max(1, recipe.epochs // EPOCHS_PER_MARKED))
    return [False, True, *[False, True] * (marked - 1)] if marked > 1 else [False, True, False]


def inseparable(case: Case) -> str:
    """Why the phases of this case cannot be timed apart; empty where they can."""
    reason = ENGINES[case.engine].inseparable
    return f"not separable: {reason}" if reason else ""


def pass_epochs(recipe: Recipe, case: Case) -> int:
    """Epochs that the pass over this case takes in each process; 0 where it has none."""
    return 0 if inseparable(case) else len(schedule(recipe))
