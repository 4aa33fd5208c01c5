"""`list`: what can be asked for. Nothing here imports torch."""

import pandas as pd

from xorbench.judge.checks import CHECKS
from xorbench.plan.axes import AXES
from xorbench.plan.recipe import RECIPE_OPTIONS, Recipe


def axes() -> pd.DataFrame:
    """The settings that can be varied."""
    rows = [
        {
            "option": axis.option,
            "default": ",".join("auto" if v is None else str(v).lower() for v in axis.default),
            "scope": axis.scope,
            "what it is": axis.about,
        }
        for axis in AXES
    ]
    return pd.DataFrame(rows)


def recipe() -> pd.DataFrame:
    """The parts of the recipe."""
    default = Recipe()
    rows = [
        {"option": r.option, "default": str(getattr(default, r.field)), "what it is": r.about}
        for r in RECIPE_OPTIONS
    ]
    return pd.DataFrame(rows)


def checks() -> pd.DataFrame:
    """The checks, with what passes them."""
    rows = [
        {"check": name, "passes when": (check.__doc__ or "").splitlines()[0]}
        for name, check in CHECKS.items()
    ]
    return pd.DataFrame(rows)


LISTS = {"settings": axes, "recipe": recipe, "checks": checks}
