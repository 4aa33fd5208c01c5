"""Slow ranks among peers: robust scores from one time per rank."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from xorbench.stats.figure import Figure
from xorbench.stats.intervals import ALPHA, RealArray, interval, t_quantile

THRESHOLD: Final = 1.1  # ratio to the median that is reported if it is significant
ISOLATE: Final = 1.5  # lower bound of the ratio that isolates a node
LEAST_PEERS: Final = 3
# Floor of the SD ratio_of_medians healthy machines of one model; smaller estimates are chance.
LEAST_SIGMA: Final = 0.005
MAD_TO_SIGMA: Final = 1.4826  # for a normal distribution


@dataclass(frozen=True, slots=True)
class Pace:
    """The logarithms of the times of one group of peers.

    `sigma` is the robust standard deviation between ranks: 1.4826 × MAD, which a minority of
    slow ranks does not change (P. J. Rousseeuw and C. Croux, 1993,
    doi:10.1080/01621459.1993.10476408). It is at least half the IQR of a rank's own rounds, so that
    three ranks that agree by chance do not make the fourth slow.
    """

    logs: RealArray
    centre: float
    sigma: float

    @property
    def margin(self) -> float:
        """The largest deviation above the centre that is expected of healthy ranks.

        Student's t with n - 1 degrees of freedom for n ranks, one test per rank (Bonferroni).
        """
        ranks = len(self.logs)
        return t_quantile(ranks - 1, 1 - ALPHA / (2 * ranks)) * self.spread

    @property
    def spread(self) -> float:
        """Standard deviation of a rank's distance from the median of all ranks."""
        return self.sigma * math.sqrt(1 + math.pi / (2 * len(self.logs)))

    def ratio(self, index: int) -> Figure:
        """A rank's time divided by the median, with the simultaneous 95% interval."""
        ranks = len(self.logs)
        log = float(self.logs[index]) - self.centre
        return interval(log, self.spread**2, ranks - 1, ranks, ALPHA / ranks)

    def score(self, index: int) -> float:
        """A rank's distance from the median in standard deviations."""
        return (float(self.logs[index]) - self.centre) / self.spread

    def slow(self, threshold: float) -> list[int]:
        """The ranks that are significantly slower than the median, and beyond the threshold."""
        if len(self.logs) < LEAST_PEERS:
            return []
        above = self.logs - self.centre
        return [int(i) for i in np.flatnonzero(above > max(self.margin, math.log(threshold)))]


def pace(times: Sequence[float], own_iqr: Sequence[float] = ()) -> Pace:
    """The pace of at least one time; `own_iqr` holds each rank's own IQR, in logarithms."""
    logs = np.log(np.asarray(times, dtype=float))
    centre = float(np.median(logs))
    between_ranks = MAD_TO_SIGMA * float(np.median(np.abs(logs - centre)))
    within_rank = float(np.median(own_iqr)) / 2 if len(own_iqr) else 0.0
    return Pace(logs, centre, max(between_ranks, within_rank, LEAST_SIGMA))


def ratio_of_medians(now: Pace, before: Pace) -> Figure:
    """The ratio of two fleets' medians, with its 95% interval."""
    variance = sum(p.sigma**2 * math.pi / (2 * len(p.logs)) for p in (now, before))
    dof = max(1, min(len(now.logs), len(before.logs)) - 1)
    return interval(now.centre - before.centre, variance, dof, len(now.logs))
