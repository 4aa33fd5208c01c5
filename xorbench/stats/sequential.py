"""The ratio of pairs that are added until it is settled, corrected for the repeated looks.

The number of pairs at each look is fixed beforehand. Each look spends a share of alpha in
proportion to its number of pairs, and the shares sum to alpha. By the union bound the interval at
the look at which the pairs end covers the true ratio with at least the stated confidence, however
the end was decided.

Of Student's interval and Yuen's interval of the trimmed mean, each with half of that alpha, the
narrower one counts. The trimmed mean is robust against pairs in which one process is uniformly
slower. (K. K. Yuen, The two-sample trimmed t for unequal population variances, 1974.)
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from scipy.special import stdtrit

from xorbench.stats.intervals import ALPHA, RealArray
from xorbench.stats.ratio import Ratio, decide

FIRST_LOOK: Final = 3
GROWTH: Final = 1.4  # of the number of pairs between looks
TRIMMED: Final = 0.2  # of the pairs, at each end
FEWEST_TRIMMED: Final = 5  # pairs
OUTLIER_MADS: Final = 4.0
SMALLEST_OUTLIER: Final = 0.02  # as a logarithm
WIDEST: Final = math.log(1e6)  # of half an interval, as a logarithm
NORMAL_MAD: Final = 1.4826  # of a normal distribution: standard deviation ÷ MAD


class LogInterval(NamedTuple):
    """A mean logarithm, and half the width of its interval."""

    mean: float
    margin: float


def looks(most: int) -> list[int]:
    """The numbers of pairs at which the ratio is judged: 3, 5, 7, 10, 14 … and the last."""
    numbers, number = [], FIRST_LOOK
    while number < most:
        numbers.append(number)
        number = math.ceil(number * GROWTH)
    return [*numbers, most]


def alpha_at(pairs: int, most: int) -> float:
    """The share of alpha that the look at this number of pairs spends."""
    return ALPHA * pairs / sum(looks(most))


def log_interval(logs: Sequence[float], alpha: float) -> LogInterval:
    """The interval of the location of at least two logarithms."""
    values = np.sort(np.asarray(logs, dtype=float))
    if len(values) < FEWEST_TRIMMED:
        return _student(values, alpha)
    return min(_student(values, alpha / 2), _yuen(values, alpha / 2), key=lambda each: each.margin)


def _student(values: RealArray, alpha: float) -> LogInterval:
    count = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    return LogInterval(float(np.mean(values)), float(stdtrit(count - 1, 1 - alpha / 2)) * error)


def _yuen(values: RealArray, alpha: float) -> LogInterval:
    count = len(values)
    cut = max(1, int(TRIMMED * count))
    kept = values[cut : count - cut]
    winsorized = np.clip(values, kept[0], kept[-1])
    left = len(kept)
    squares = (count - 1) * float(np.var(winsorized, ddof=1))
    error = math.sqrt(squares / (left * (left - 1)))
    return LogInterval(float(np.mean(kept)), float(stdtrit(left - 1, 1 - alpha / 2)) * error)


def judged_pairs(logs: Sequence[float], most: int, limit: float) -> Ratio:
    """The ratio of these pairs of at most `most`, against the limit (1.05).

    One pair has no interval. Between two looks the alpha of the next one counts.
    """
    if len(logs) < 2:
        return Ratio(ratio=math.exp(logs[0]), low=None, high=None, processes=len(logs))
    look = next(number for number in looks(max(most, len(logs))) if number >= len(logs))
    mean, margin = log_interval(logs, alpha_at(look, max(most, len(logs))))
    ratio, low, high = (math.exp(mean + side * min(margin, WIDEST)) for side in (0, -1, 1))
    p = 0.0 if low > 1 or high < 1 else 1.0
    verdict = decide(ratio, low, high, p, limit)
    return Ratio(ratio=ratio, low=low, high=high, processes=len(logs), verdict=verdict)


def is_settled(logs: Sequence[float], most: int, limit: float) -> bool:
    """Whether no further pair is needed: at a look with a verdict, or after the last one."""
    if len(logs) >= most:
        return True
    return len(logs) in looks(most) and judged_pairs(logs, most, limit).verdict != "inconclusive"


def outliers(logs: Sequence[float]) -> list[int]:
    """The pairs far from the median of at least four, in which one process is uniformly slower."""
    if len(logs) < 4:
        return []
    values = np.asarray(logs, dtype=float)
    distances = np.abs(values - np.median(values))
    limit = max(SMALLEST_OUTLIER, OUTLIER_MADS * NORMAL_MAD * float(np.median(distances)))
    return [int(index) for index in np.flatnonzero(distances > limit)]
