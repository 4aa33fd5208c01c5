"""Pictures of a run: the figures in a frame, and the frame drawn as SVG."""

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
        bits.SAME_BITS,
    ),
)
