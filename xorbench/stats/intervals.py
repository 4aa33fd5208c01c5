"""Statistics of repeated timings. Names as in pytest-benchmark; logarithms are natural.

The unit of evidence is a process, not an epoch: epochs within a process are correlated, so each
process counts as one sample.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from xorbench.stats.figure import Figure

CONFIDENCE: Final = 0.95
ALPHA: Final = 1 - CONFIDENCE
TWO_DOF: Final = 1.5
"""The most degrees of freedom of two processes, which cannot estimate their shared variance. With
more, a 95% interval would cover 88% if nine tenths of the variance is shared by all variants."""
KNOWN_DOF: Final = 20.0  # degrees of freedom of a prior estimate from about 20 runs
RealArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles of one set of values, in their own unit."""

    median: float
    q1: float
    q3: float
    rounds: int

    @property
    def iqr(self) -> float:
        """The interquartile range."""
        return self.q3 - self.q1


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles (linear interpolation) of at least one value."""
    q1, middle, q3 = np.quantile(np.asarray(values, dtype=float), [0.25, 0.5, 0.75])
    return Spread(float(middle), float(q1), float(q3), len(values))


@dataclass(frozen=True, slots=True)
class Pool:
    """Variants measured by the same processes, one logarithm each, with their common deviation.

    With two or three processes a variant's own variance is poorly known, so the variance between
    processes is pooled over all variants: `s² = Σ(x - mean of its variant)² / Σ(processes - 1)`.
    An effect of a process is shared by all its variants. This does not bias s² but reduces its
    degrees of freedom (see `_dof`). A single process has no deviation: None.

    `between` is the standard deviation between runs, which one run cannot show. It is a prior
    estimate and enters as a type B uncertainty (JCGM 100:2008, GUM, 4.3) with its own degrees of
    freedom (G.4.2).
    """

    means: dict[str, float]
    processes: dict[str, int]
    deviation: float | None
    dof: float
    between: float = 0.0
    between_dof: float = KNOWN_DOF

    def variance(self, name: str) -> float | None:
        """The variance of a variant's mean; None for a single process."""
        return None if self.deviation is None else self._sampled(name) + self.between**2

    def dof_of(self, name: str) -> float:
        """The degrees of freedom of that variance, by Welch and Satterthwaite (GUM, G.4)."""
        sampled = 0.0 if self.deviation is None else self._sampled(name)
        parts = [(sampled, self.dof), (self.between**2, self.between_dof)]
        return _joined_dof(parts) or self.dof

    def log_ratio(self, name: str) -> "LogRatio":
        """A variant's mean with its variance, for logarithms of ratios."""
        return LogRatio(
            self.means[name], self.variance(name), self.dof_of(name), self.processes[name]
        )

    def _sampled(self, name: str) -> float:
        assert self.deviation is not None
        return self.deviation**2 / self.processes[name]


def pool(
    logs: Mapping[str, Sequence[float]], between: float = 0.0, between_dof: float = KNOWN_DOF
) -> Pool:
    """Pool the processes' logarithms of several variants."""
    means = {name: float(np.mean(values)) for name, values in logs.items()}
    processes = {name: len(values) for name, values in logs.items()}
    pairs = sum(processes.values()) - len(processes)
    if pairs == 0:
        return Pool(means, processes, None, 0.0, between, between_dof)
    residuals = [np.asarray(values) - means[name] for name, values in logs.items()]
    squares = sum(float(np.sum(residual**2)) for residual in residuals)
    deviation = math.sqrt(squares / pairs)
    return Pool(means, processes, deviation, _dof(residuals), between, between_dof)


def pooled(logs: Mapping[str, Sequence[float]]) -> dict[str, Figure]:
    """The figure of each variant from one logarithm per process, converted back."""
    return estimates(pool(logs))


def estimates(log_pool: Pool) -> dict[str, Figure]:
    """Each variant of a pool with its interval, by Student's t."""
    return {name: estimate(log_pool, name) for name in log_pool.means}


def estimate(log_pool: Pool, name: str) -> Figure:
    """A variant of a pool, with its interval."""
    return log_pool.log_ratio(name).ratio()


def t_quantile(dof: float, share: float) -> float:
    """The quantile of Student's t distribution."""
    from scipy.special import stdtrit  # slow to import, and not part of the smallest install

    return float(stdtrit(dof, share))


def interval(
    mean: float, variance: float | None, dof: float, processes: int, alpha: float = ALPHA
) -> Figure:
    """The figure whose logarithm has this mean and variance, with Student's interval."""
    if variance is None:
        return Figure(math.exp(mean), None, None, processes)
    margin = t_quantile(dof, 1 - alpha / 2) * math.sqrt(variance)
    return Figure(math.exp(mean), math.exp(mean - margin), math.exp(mean + margin), processes)


@dataclass(frozen=True, slots=True)
class LogRatio:
    """The shift of a variant's mean between two pools, in logarithms."""

    log: float
    variance: float | None
    dof: float
    processes: int

    @property
    def p(self) -> float:
        """The p-value of the shift (two-sided, Student's t)."""
        if not self.variance:
            return 1.0 if self.variance is None or self.log == 0 else 0.0
        from scipy.special import stdtr

        return 2 * float(stdtr(self.dof, -abs(self.log) / math.sqrt(self.variance)))

    def ratio(self, alpha: float = ALPHA) -> Figure:
        """The shift as a ratio, with its interval."""
        return interval(self.log, self.variance, self.dof, self.processes, alpha)


def shift(a: Pool, b: Pool, name: str, residual_drift: float = 0.0) -> LogRatio:
    """The shift from `a` to `b`, with Welch's degrees of freedom.

    `residual_drift` is a prior estimate of the standard deviation that the machine's drift adds
    between the two.
    """
    log = b.means[name] - a.means[name]
    processes = min(a.processes[name], b.processes[name])
    variances = [v for side in (a, b) if (v := side.variance(name)) is not None]
    if len(variances) < 2:
        return LogRatio(log, None, 0.0, processes)
    dofs = [side.dof_of(name) for side in (a, b)]
    parts = [*zip(variances, dofs, strict=True), (residual_drift**2, KNOWN_DOF)]
    total = sum(variance for variance, _ in parts)
    return LogRatio(log, total, _joined_dof(parts) or min(dofs), processes)


def _joined_dof(parts: Sequence[tuple[float, float]]) -> float:
    """The degrees of freedom of a sum of variances with these degrees; 0 if all are zero."""
    known = [(variance, dof) for variance, dof in parts if variance]
    total = sum(variance for variance, _ in known)
    return total**2 / sum(v**2 / dof for v, dof in known) if known else 0.0


def holm(ps: Sequence[float]) -> list[tuple[float, float]]:
    """Each p adjusted for multiple tests, and the alpha of its own interval.

    S. Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    adjusted = [(0.0, 0.0)] * len(ps)
    least, times = 0.0, len(ps)
    for rank, index in enumerate(order):
        if least < ALPHA:  # after the first accepted hypothesis, all share its alpha
            times = len(ps) - rank
        least = max(least, min(1.0, ps[index] * (len(ps) - rank)))
        adjusted[index] = (least, ALPHA / times)
    return adjusted


def _dof(residuals: Sequence[RealArray]) -> float:
    """The degrees of freedom of the pooled variance, by Satterthwaite's rule.

    Variants × processes with one value per cell is a two-way layout. The pooled variance is the sum
    of the mean square between processes, divided by the number of variants, with `processes - 1`
    degrees, and of the residual, with `(processes - 1)(variants - 1)`. If whole processes differ,
    the first dominates, otherwise the second (Satterthwaite, 1946, Biometrics Bulletin 2:110). If a
    variant lacks a process, whole processes are assumed to differ.
    """
    processes, variants = max(map(len, residuals)), len(residuals)
    if variants == 1 or any(len(residual) != processes for residual in residuals):
        degrees = [len(residual) - 1 for residual in residuals]
        return sum(degrees) ** 2 / sum(map(math.sqrt, degrees)) ** 2
    table = np.stack(residuals)
    between = variants * float(np.sum(table.mean(axis=0) ** 2)) / (processes - 1)
    left = float(np.sum((table - table.mean(axis=0)) ** 2)) / ((processes - 1) * (variants - 1))
    a, b = between / variants, left * (variants - 1) / variants
    if a + b == 0.0:
        return float((processes - 1) * variants)
    dof = (a + b) ** 2 * (processes - 1) / (a**2 + b**2 / (variants - 1))
    return min(dof, TWO_DOF) if processes == 2 else dof


def median_log_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median over rounds of the log ratio of two series timed in the same rounds."""
    return float(np.median(np.log(np.asarray(numerators)) - np.log(np.asarray(denominators))))


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The interval of a share, by Wilson's score, which is valid at 0 and 1 and for few trials.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    from scipy.special import ndtri

    z2 = float(ndtri(0.5 + CONFIDENCE / 2)) ** 2
    failures = trials - successes
    centre = successes + z2 / 2
    margin = math.sqrt(z2 * (successes * failures / trials + z2 / 4))
    low = 0.0 if successes == 0 else (centre - margin) / (trials + z2)
    high = 1.0 if failures == 0 else (centre + margin) / (trials + z2)
    return low, high


def quantile(counts: Mapping[int, int], total: int, share: Fraction) -> int | None:
    """The exact quantile: the least value that a share of at least `share` does not exceed.

    The difference of `total` and the sum of `counts` is greater than every value. None if the
    quantile is among these.
    """
    reached = 0
    for value in sorted(counts):
        reached += counts[value]
        if reached >= share * total:
            return value
    return None
