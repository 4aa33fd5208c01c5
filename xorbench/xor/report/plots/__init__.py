"""Pictures of a run: a data frame of figures, and its drawing as SVG."""

from typing import Final

from xorbench.registry import Registry
from xorbench.report.content import Picture as Plot
from xorbench.xor.report.plots import bits, learning, phases, speed

__all__ = ["PLOTS", "Plot"]

PLOTS: Final = Registry(
    "plots",
    Plot,
    (
        speed.THROUGHPUT,
        speed.SCALING,
        speed.EPOCHS,
        phases.PLOT,
        learning.LOSS,
        learning.BOUNDARY,
        bits.IDENTICAL_BITS,
    ),
)
