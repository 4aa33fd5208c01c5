"""Repeated ratios, and shares, as one figure with its interval."""

from collections.abc import Sequence

import numpy as np

from xorbench.stats.figure import Figure
from xorbench.stats.intervals import pooled, wilson


def mean_ratio(ratios: Sequence[float]) -> Figure:
    """The geometric mean of ratios with its 95% interval (Student's t of the logarithms)."""
    return pooled({"": list(np.log(np.asarray(ratios)))})[""]


def shown(ratios: Sequence[float], form: str = ".3f") -> str:
    """`mean_ratio` as text: `0.984 [0.982, 0.987]`; a single ratio has no interval."""
    return mean_ratio(ratios).text(form)


def share(part: int, whole: int) -> str:
    """A share with Wilson's 95% interval: `97/100 [92, 99]%`; empty for an empty total."""
    if whole == 0:
        return ""
    low, high = wilson(part, whole)
    return f"{part}/{whole} [{100 * low:.0f}, {100 * high:.0f}]%"
