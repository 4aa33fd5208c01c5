"""The tables of `list`; this module does not import torch."""

from typing import Any

import pandas as pd

from xorbench import __version__
from xorbench.machine.probes.table import PROBES
from xorbench.records.schema.line import SCHEMA_VERSION
from xorbench.registry import Registry
from xorbench.xor.checks import CHECKS
from xorbench.xor.matrix.axes import AXES
from xorbench.xor.matrix.engines import ENGINES
from xorbench.xor.matrix.faults import FAULTS
from xorbench.xor.matrix.recipe import RECIPE_OPTIONS


def axes() -> pd.DataFrame:
    """Return the settings."""
    columns = ["option", "default", "scope", "description"]
    rows = [(axis.option, axis.default_text, axis.scope, axis.about) for axis in AXES]
    return pd.DataFrame(rows, columns=columns)


def recipe() -> pd.DataFrame:
    """Return the fields of the recipe."""
    rows = [(row.option, row.default_text, row.about) for row in RECIPE_OPTIONS]
    return pd.DataFrame(rows, columns=["option", "default", "description"])


def checks() -> pd.DataFrame:
    """Return the checks with their conditions."""
    rows = [(check.name, check.passes_when, check.needs) for check in CHECKS.values()]
    return pd.DataFrame(rows, columns=["check", "passes when", "needs"])


def engines() -> pd.DataFrame:
    """Return the engines."""
    return _rows("engine", ENGINES)


def probes() -> pd.DataFrame:
    """Return the probes of `canary`."""
    return _rows("probe", PROBES)


def faults() -> pd.DataFrame:
    """Return the faults of `--inject`, each with the check that must detect it."""
    frame = _rows("fault", FAULTS)
    frame.insert(2, "caught by", [fault.caught_by for fault in FAULTS.values()])
    return frame


def _rows(kind: str, registry: Registry[Any]) -> pd.DataFrame:
    """Return the entries of a registry, with the packages that added them."""
    rows = [
        {kind: name, "description": entry.about, "from": registry.added_by(name)}
        for name, entry in registry.items()
    ]
    frame = pd.DataFrame(rows)
    return frame if any(frame["from"]) else frame.drop(columns="from")


def version() -> pd.DataFrame:
    """Return the versions of xorbench and of its schema."""
    return pd.DataFrame([{"xorbench": __version__, "schema version": SCHEMA_VERSION}])


LISTS = {
    "version": version,
    "settings": axes,
    "recipe": recipe,
    "engines": engines,
    "checks": checks,
    "probes": probes,
    "faults": faults,
}
