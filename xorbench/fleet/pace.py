"""Who is slow among its peers: robust scores of one time a rank."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from xorbench.stats.figure import Figure
from xorbench.stats.intervals import ALPHA, RealArray, interval, t_quantile

THRESHOLD: Final = 1.1  # so much slower than the median is worth a finding, if it is sure
ISOLATE: Final = 1.5  # surely so much slower is worth a cordon
LEAST_PEERS: Final = 3
# Two sound machines of one model differ by this at least; what scatters less is luck.
LEAST_SIGMA: Final = 0.005
MAD_TO_SIGMA: Final = 1.4826  # of normal values


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of one group of peers, as logarithms.

    `sigma` is how far one sound rank lies from the next: 1.4826 times the median distance from the
    median, which a minority of slow ranks does not move (P. J. Rousseeuw and C. Croux, 1993,
    doi:10.1080/01621459.1993.10476408); at least half the interquartile range of a rank's own
    rounds, so that three ranks that happen to agree do not make the fourth slow.
    """

    logs: RealArray
    centre: float
    sigma: float

    @property
    def margin(self) -> float:
        """What a logarithm may lie above the centre where every rank is sound.

        Student's t with one degree less than there are ranks, one test a rank (Bonferroni).
        """
        ranks = len(self.logs)
        return t_quantile(ranks - 1, 1 - ALPHA / (2 * ranks)) * self.spread

    @property
    def spread(self) -> float:
        """Deviation of one rank's distance from the median of all."""
        return self.sigma * math.sqrt(1 + math.pi / (2 * len(self.logs)))

    def ratio(self, index: int) -> Figure:
        """A rank's time over the median, with the interval of all tests together."""
        ranks = len(self.logs)
        log = float(self.logs[index]) - self.centre
        return interval(log, self.spread**2, ranks - 1, ranks, ALPHA / ranks)

    def score(self, index: int) -> float:
        """A rank's distance from the median in deviations."""
        return (float(self.logs[index]) - self.centre) / self.spread

    def slow(self, threshold: float) -> list[int]:
        """The ranks that are surely slower than the median, and by the threshold."""
        if len(self.logs) < LEAST_PEERS:
            return []
        above = self.logs - self.centre
        return [int(i) for i in np.flatnonzero(above > max(self.margin, math.log(threshold)))]


def pace(times: Sequence[float], own_iqr: Sequence[float] = ()) -> Pace:
    """The pace of at least one time; `own_iqr` are the ranks' own quartile distances, in logs."""
    logs = np.log(np.asarray(times, dtype=float))
    centre = float(np.median(logs))
    among = MAD_TO_SIGMA * float(np.median(np.abs(logs - centre)))
    within = float(np.median(own_iqr)) / 2 if len(own_iqr) else 0.0
    return Pace(logs, centre, max(among, within, LEAST_SIGMA))


def between(now: Pace, before: Pace) -> Figure:
    """The median of one fleet over that of another, with its 95% interval."""
    variance = sum(p.sigma**2 * math.pi / (2 * len(p.logs)) for p in (now, before))
    dof = max(1, min(len(now.logs), len(before.logs)) - 1)
    return interval(now.centre - before.centre, variance, dof, len(now.logs))
