"""Statistics of repeated timings. Names as in pytest-benchmark; logarithms are natural.

The unit of evidence is a worker, not an epoch: epochs of one process share its luck, so that a
thousand of them still are one sample of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtr, stdtrit

CONFIDENCE: Final = 0.95
ALPHA: Final = 1 - CONFIDENCE
Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval; the bounds are None where one worker allows none."""

    value: float
    low: float | None
    high: float | None
    workers: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles of one set of values, in their own unit."""

    median: float
    q1: float
    q3: float
    rounds: int

    @property
    def iqr(self) -> float:
        """Distance between the quartiles."""
        return self.q3 - self.q1


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles (linear interpolation) of at least one value."""
    q1, middle, q3 = np.quantile(np.asarray(values, dtype=float), [0.25, 0.5, 0.75])
    return Spread(float(middle), float(q1), float(q3), len(values))


@dataclass(frozen=True, slots=True)
class Pool:
    """Subjects measured by the same workers, one logarithm each, with their common deviation.

    With two or three workers a subject's own variance is hardly known, so the variance between
    workers is pooled over all subjects: `s² = Σ(x - mean of its subject)² / Σ(workers - 1)`.
    A worker's luck is shared by all its subjects, which leaves s² as it is but makes it less
    sure: see `_freedom`. One worker has no deviation: None.
    """

    means: dict[str, float]
    workers: dict[str, int]
    deviation: float | None
    freedom: float

    def variance(self, name: str) -> float | None:
        """Variance of a subject's mean."""
        return None if self.deviation is None else self.deviation**2 / self.workers[name]


def pool(logs: Mapping[str, Sequence[float]]) -> Pool:
    """Pool the workers' logarithms of several subjects."""
    means = {name: float(np.mean(values)) for name, values in logs.items()}
    workers = {name: len(values) for name, values in logs.items()}
    pairs = sum(workers.values()) - len(workers)
    if pairs == 0:
        return Pool(means, workers, None, 0.0)
    residuals = [np.asarray(values) - means[name] for name, values in logs.items()]
    squares = sum(float(np.sum(residual**2)) for residual in residuals)
    return Pool(means, workers, math.sqrt(squares / pairs), _freedom(residuals))


def pooled(logs: Mapping[str, Sequence[float]]) -> dict[str, Estimate]:
    """Estimate each subject from one logarithm a worker; the results are no logarithms.

    The interval is Student's t around the subject's mean, with the deviation of the `pool`.
    """
    together = pool(logs)
    return {
        name: interval(mean, together.variance(name), together.freedom, together.workers[name])
        for name, mean in together.means.items()
    }


def interval(
    mean: float, variance: float | None, freedom: float, workers: int, alpha: float = ALPHA
) -> Estimate:
    """The figure whose logarithm has this mean and variance, with Student's interval around it."""
    if variance is None:
        return Estimate(math.exp(mean), None, None, workers)
    margin = float(stdtrit(freedom, 1 - alpha / 2)) * math.sqrt(variance)
    return Estimate(math.exp(mean), math.exp(mean - margin), math.exp(mean + margin), workers)


@dataclass(frozen=True, slots=True)
class Shift:
    """How far a subject's mean lies from one pool to another, in logarithms."""

    log: float
    variance: float | None
    freedom: float
    workers: int

    @property
    def p(self) -> float:
        """How likely so large a shift is where there is none (two-sided, Student's t)."""
        if not self.variance:
            return 1.0 if self.variance is None or self.log == 0 else 0.0
        return 2 * float(stdtr(self.freedom, -abs(self.log) / math.sqrt(self.variance)))

    def ratio(self, alpha: float = ALPHA) -> Estimate:
        """The shift as a ratio, with its interval."""
        return interval(self.log, self.variance, self.freedom, self.workers, alpha)


def shift(a: Pool, b: Pool, name: str) -> Shift:
    """From `a` to `b`; the degrees of freedom are Welch's, where either side has a deviation."""
    log = b.means[name] - a.means[name]
    workers = min(a.workers[name], b.workers[name])
    sides = [(side.variance(name), side.freedom) for side in (a, b)]
    variances = [variance for variance, _ in sides if variance is not None]
    if len(variances) < 2:
        return Shift(log, None, 0.0, workers)
    total = sum(variances)
    if total == 0.0:
        return Shift(log, 0.0, min(freedom for _, freedom in sides), workers)
    parts = sum(v**2 / freedom for v, (_, freedom) in zip(variances, sides, strict=True))
    return Shift(log, total, total**2 / parts, workers)


def holm(ps: Sequence[float]) -> list[tuple[float, float]]:
    """Each p adjusted for there being several, and the alpha that its own interval is drawn at.

    S. Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    adjusted = [(0.0, 0.0)] * len(ps)
    least = 0.0
    for rank, index in enumerate(order):
        times = len(ps) - rank
        least = max(least, min(1.0, ps[index] * times))
        adjusted[index] = (least, ALPHA / times)
    return adjusted


def _freedom(residuals: Sequence[Floats]) -> float:
    """Degrees of freedom of the pooled variance, by Satterthwaite's rule.

    Subjects × workers, each cell one value, is a two-way layout: the pooled variance is the sum of
    the mean square between workers over the number of subjects, of `workers - 1` degrees, and of
    what is left, of `(workers - 1)(subjects - 1)`. Where the workers differ as a whole the first
    counts most; where they do not, the second (Satterthwaite, 1946, Biometrics Bulletin 2:110).
    Where some subject lacks a worker, the fewest degrees that this could give.
    """
    workers, subjects = max(map(len, residuals)), len(residuals)
    if subjects == 1 or any(len(residual) != workers for residual in residuals):
        return float(workers - 1)
    table = np.stack(residuals)
    between = subjects * float(np.sum(table.mean(axis=0) ** 2)) / (workers - 1)
    left = float(np.sum((table - table.mean(axis=0)) ** 2)) / ((workers - 1) * (subjects - 1))
    a, b = between / subjects, left * (subjects - 1) / subjects
    if a + b == 0.0:
        return float((workers - 1) * subjects)
    return (a + b) ** 2 * (workers - 1) / (a**2 + b**2 / (subjects - 1))


def median_log_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Median over rounds of the log ratio of two series timed in the same rounds."""
    return float(np.median(np.log(np.asarray(numerators)) - np.log(np.asarray(denominators))))


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The interval of a share, by Wilson's score: good at 0 and 1 too, and for few trials.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    z2 = float(ndtri(0.5 + CONFIDENCE / 2)) ** 2
    failures = trials - successes
    centre = successes + z2 / 2
    margin = math.sqrt(z2 * (successes * failures / trials + z2 / 4))
    low = 0.0 if successes == 0 else (centre - margin) / (trials + z2)
    high = 1.0 if failures == 0 else (centre + margin) / (trials + z2)
    return low, high


def quantile(counts: Mapping[int, int], total: int, share: Fraction) -> int | None:
    """The least value that at least this share of `total` does not exceed, by exact counts.

    What `counts` lacks of `total` lies beyond every value; None where the quantile lies there.
    """
    reached = 0
    for value in sorted(counts):
        reached += counts[value]
        if reached >= share * total:
            return value
    return None
