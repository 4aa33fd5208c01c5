"""`list`: what can be asked for. Nothing here imports torch."""

import pandas as pd

from xorbench import __version__
from xorbench.judge.checks import CHECKS
from xorbench.observe.records import SCHEMA_VERSION
from xorbench.plan.axes import AXES
from xorbench.plan.recipe import RECIPE_OPTIONS


def axes() -> pd.DataFrame:
    """The settings that can be varied."""
    rows = [
        {
            "option": axis.option,
            "default": axis.default_text,
            "scope": axis.scope,
            "what it is": axis.about,
        }
        for axis in AXES
    ]
    return pd.DataFrame(rows)


def recipe() -> pd.DataFrame:
    """The fields of the recipe."""
    rows = [
        {"option": row.option, "default": row.default_text, "what it is": row.about}
        for row in RECIPE_OPTIONS
    ]
    return pd.DataFrame(rows)


def checks() -> pd.DataFrame:
    """The checks, with what passes them."""
    rows = [
        {"check": name, "passes when": (check.__doc__ or "").splitlines()[0]}
        for name, check in CHECKS.items()
    ]
    return pd.DataFrame(rows)


def version() -> pd.DataFrame:
    """Which xorbench this is, and of its schema, for a bug report."""
    return pd.DataFrame([{"xorbench": __version__, "schema version": SCHEMA_VERSION}])


LISTS = {"version": version, "settings": axes, "recipe": recipe, "checks": checks}
