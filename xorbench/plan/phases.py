"""The phases of a training step, and how many epochs the pass that times them takes."""

from collections.abc import Iterator
from typing import Final

from xorbench.plan.case import Case
from xorbench.plan.engines import ENGINES
from xorbench.plan.recipe import Recipe

PHASES: Final = ("data", "copy", "forward", "backward", "optimizer")
MOST_PAIRS: Final = 3  # of an unmarked epoch and a marked one, in each process
EPOCHS_PER_PAIR: Final = 50  # of the recipe: the pass stays at about 5% of the timed epochs


def schedule(recipe: Recipe) -> Iterator[bool]:
    """Whether each epoch of the pass is marked: a first one to warm up, then pairs."""
    yield False
    for _ in range(min(MOST_PAIRS, max(1, recipe.epochs // EPOCHS_PER_PAIR))):
        yield True
        yield False


def inseparable(case: Case) -> str:
    """Why the phases of this case cannot be timed apart; empty where they can."""
    reason = ENGINES[case.engine].inseparable
    return f"not separable: {reason}" if reason else ""


def pass_epochs(recipe: Recipe, case: Case) -> int:
    """Epochs that the pass over this case takes in each process; 0 where it has none."""
    return 0 if inseparable(case) else len(list(schedule(recipe)))
