"""`list`: what can be asked for. Nothing here imports torch."""

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
    """The settings that can be varied."""
    columns = ["option", "default", "scope", "what it is"]
    rows = [(axis.option, axis.default_text, axis.scope, axis.about) for axis in AXES]
    return pd.DataFrame(rows, columns=columns)


def recipe() -> pd.DataFrame:
    """The fields of the recipe."""
    rows = [(row.option, row.default_text, row.about) for row in RECIPE_OPTIONS]
    return pd.DataFrame(rows, columns=["option", "default", "what it is"])


def checks() -> pd.DataFrame:
    """The checks, with what passes them."""
    rows = [(check.name, check.passes_when, check.needs) for check in CHECKS.values()]
    return pd.DataFrame(rows, columns=["check", "passes when", "needs"])


def engines() -> pd.DataFrame:
    """The ways to run the training."""
    return _rows("engine", ENGINES)


def probes() -> pd.DataFrame:
    """What `canary` can check of a device."""
    return _rows("probe", PROBES)


def faults() -> pd.DataFrame:
    """What `--inject` can inject, and the check that must catch it."""
    frame = _rows("fault", FAULTS)
    frame.insert(2, "caught by", [fault.caught_by for fault in FAULTS.values()])
    return frame


def _rows(kind: str, registry: Registry[Any]) -> pd.DataFrame:
    """The entries of a registry; of another package's, which package that is."""
    rows = [
        {kind: name, "what it is": entry.about, "from": registry.added_by(name)}
        for name, entry in registry.items()
    ]
    frame = pd.DataFrame(rows)
    return frame if any(frame["from"]) else frame.drop(columns="from")


def version() -> pd.DataFrame:
    """Which xorbench this is, and of its schema, for a bug report."""
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
