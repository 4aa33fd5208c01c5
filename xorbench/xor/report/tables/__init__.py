"""The tables of a run as data frames: numbers, with their units in the headers.

`X`, `X low` and `X high` are a figure and its 95% interval; text shows them as one column.
"""

from typing import Final

from xorbench.registry import Registry
from xorbench.xor.report.tables import bits, correctness, overview, phases, speed
from xorbench.xor.report.tables.table import Table

__all__ = ["TABLES", "Table"]

TABLES: Final = Registry(
    "tables",
    Table,
    (
        speed.THROUGHPUT,
        correctness.ACCURACY,
        bits.DETERMINISM,
        speed.ENGINES,
        correctness.FLOAT64_ERROR,
        bits.SETTINGS,
        phases.TABLE,
        speed.COSTS,
        speed.COST_MODEL,
        overview.NOT_TRAINED,
        overview.PROCESSES,
        overview.CHECKS,
    ),
)
