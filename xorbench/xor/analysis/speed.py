"""Speed of the variants of a run, as one logarithm per process."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from xorbench.records.schema.training import TrainingRecord
from xorbench.stats.figure import Figure
from xorbench.stats.intervals import (
    KNOWN_DOF,
    Pool,
    estimates,
    median_log_ratio,
    pool,
    pooled,
    spread,
)
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.matrix.case import BASE_CONFIG, Variant
from xorbench.xor.matrix.engines import calibration_key

NOISY_PERCENT: Final = 10.0
NOISY: Final = f"IQR above {NOISY_PERCENT:g}% of the median"
# Measured by bench/timing_trust.py, since one run cannot estimate them: the run-to-run standard
# deviation of a case's normalized time (a natural logarithm), and the share of a small shift of
# the raw calibration time that remains in it. A large shift leaves a larger share: 8% (0.3 ms per
# epoch, long or short) where every epoch and calibration time is stretched by 80%.
BETWEEN_RUNS: Final = 0.004
RESIDUAL_DRIFT: Final = 0.02

Logs = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class RunVariance:
    """Variance between runs of unchanged code, beyond the variance between their processes.

    Attributes:
        between: run-to-run standard deviation of a normalized time (a natural logarithm).
        dof: degrees of freedom of `between`.
        residual_drift: share of a small shift of the raw calibration time that remains.
        source: where it was measured; empty for the reference machine.
    """

    between: float = BETWEEN_RUNS
    dof: float = KNOWN_DOF
    residual_drift: float = RESIDUAL_DRIFT
    source: str = ""

    @classmethod
    def of_runs(cls, between: float, residual_drift: float, runs: int, date: str) -> "RunVariance":
        """The variance measured by quiet runs of this machine on a date."""
        return cls(between, runs - 1.0, residual_drift, f"{runs} runs of this machine, {date}")

    @property
    def description(self) -> str:
        """The variance that the intervals include, in one line."""
        included = (
            f"the intervals include a run-to-run standard deviation of {100 * self.between:.2g}%"
            f" and {100 * self.residual_drift:.2g}% of the machine's drift"
        )
        if self.source:
            return f"{included} ({self.source})"
        measured = "measured on the reference machine; baseline calibrate measures this machine"
        return f"{included}, {measured}"


PACKAGED: Final = RunVariance()


def log_epoch(training: TrainingRecord) -> float:
    """Log of the median epoch, in seconds."""
    return math.log(spread(training.epoch_s).median)


def log_relative(training: TrainingRecord) -> float | None:
    """Log of the median normalized time; None if a round has no calibration time."""
    calibration_s = [seconds for seconds in training.calibration_s if seconds is not None]
    if len(calibration_s) < len(training.epoch_s):
        return None
    return median_log_ratio(training.epoch_s, calibration_s)


def relative_pool(logs: Mapping[str, Sequence[float]], variance: RunVariance = PACKAGED) -> Pool:
    """Pool relative figures, including their run-to-run variance."""
    return pool(logs, variance.between, variance.dof)


def by_variant(evidence: Evidence, figure: Callable[[TrainingRecord], float | None]) -> Logs:
    """A figure of every process with valid times, for the variants that have any."""
    logs_by_variant = {}
    for variant in evidence.variants:
        values = [figure(training) for training in evidence.timed[variant.id]]
        logs = [value for value in values if value is not None]
        if logs:
            logs_by_variant[variant.id] = logs
    return logs_by_variant


def normalized(evidence: Evidence) -> Logs:
    """The log of the normalized time of every process with valid calibration times."""
    invalid = evidence.uncalibrated
    return by_variant(
        evidence, lambda training: None if training.process in invalid else log_relative(training)
    )


def epochs_per_s(evidence: Evidence) -> dict[str, Figure]:
    """Epochs per second of each timed variant, by its id."""
    return pooled(by_variant(evidence, lambda training: -log_epoch(training)))


def samples_per_s(evidence: Evidence) -> dict[str, Figure]:
    """Samples per second of each timed variant, by its id."""
    speeds = epochs_per_s(evidence)
    return {
        variant.id: speeds[variant.id].scaled(samples(variant))
        for variant in evidence.variants
        if variant.id in speeds
    }


def samples(variant: Variant) -> int:
    """Samples per epoch."""
    return variant.recipe.samples(variant.case.batch_size, variant.case.drop_last)


def normalized_time(evidence: Evidence) -> dict[str, Figure]:
    """Epoch time ÷ calibration time of each variant that has both, by its id."""
    return estimates(relative_pool(normalized(evidence)))


def calibrations(evidence: Evidence) -> Logs:
    """Log of the median raw calibration time in seconds per process, by `calibration_name`."""
    processes_by_name: dict[str, dict[str, list[float]]] = {}
    invalid = evidence.uncalibrated
    for variant in evidence.variants:
        processes = processes_by_name.setdefault(calibration_name(variant), {})
        for training in evidence.trainings[variant.id]:
            if training.process in invalid:
                continue
            seconds = [value for value in training.calibration_s if value is not None]
            processes.setdefault(training.process, []).extend(seconds)
    return {
        name: [math.log(spread(seconds).median) for seconds in processes.values() if seconds]
        for name, processes in processes_by_name.items()
        if any(processes.values())
    }


def calibration_name(variant: Variant) -> str:
    """Device, kind and config of a variant's calibration workload."""
    name = f"{', '.join(calibration_key(variant.case))} calibration workload"
    config = variant.config.id
    return name if config == BASE_CONFIG else f"{name}, {config}"


def residual_drifts(a: Evidence, b: Evidence, variance: RunVariance = PACKAGED) -> dict[str, float]:
    """The residual drift of each variant of `b` from `a`, as a standard deviation of logs."""
    before, after = calibrations(a), calibrations(b)
    moved = {
        name: abs(float(np.mean(after[name]) - np.mean(before[name])))
        for name in before.keys() & after.keys()
    }
    return {
        s.id: variance.residual_drift * drifted(moved.get(calibration_name(s), 0.0))
        for s in b.variants
    }


def drifted(moved: float) -> float:
    """The shift of a calibration time, with more weight for a large one than for a small one.

    `moved` and the result are logarithms.
    """
    return moved * (1 + 2 * moved)


def noisy(trainings: Sequence[TrainingRecord]) -> bool:
    """Whether the IQR of any process is above `NOISY_PERCENT`."""
    return iqr_percent(trainings) > NOISY_PERCENT


def iqr_percent(trainings: Sequence[TrainingRecord]) -> float:
    """The largest IQR of a process, in per cent of its median."""
    spreads = [spread(training.epoch_s) for training in trainings]
    return max(100 * s.iqr / s.median for s in spreads)
