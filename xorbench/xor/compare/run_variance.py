"""The run-to-run variance of one machine: how much runs of unchanged code differ.

One run cannot estimate it. `baseline calibrate` makes several runs, some of them under load; the
result replaces the variance of the reference machine.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from xorbench.errors import XorbenchError
from xorbench.machine import quiet as system_samples
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.speed import (
    Logs,
    RunVariance,
    calibration_name,
    calibrations,
    drifted,
    normalized,
)

FEWEST_RUNS: Final = 4
LEAST_SHIFT: Final = 0.05  # of the raw calibration time under load, as a logarithm


class NotCalibrated(XorbenchError):
    """The run-to-run variance cannot be computed from the runs."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The run-to-run variance of a machine, and the measurements it was computed from.

    Attributes:
        variance: the variance for `compare`.
        within: standard deviation between the processes of one run.
        raw: run-to-run standard deviation of the raw calibration time.
        slowed: raw calibration time under load ÷ its time in the quiet runs.
        trouble: the disturbances of quiet runs.
    """

    variance: RunVariance
    within: float
    raw: float
    slowed: float
    trouble: tuple[str, ...] = ()


def calibrated(quiet: Sequence[Evidence], loaded: Sequence[Evidence], date: str) -> Calibrated:
    """The variance from quiet runs and runs under load, of one plan and machine.

    Raises `NotCalibrated` for too few runs, or a load without effect.
    """
    if len(quiet) < FEWEST_RUNS:
        raise NotCalibrated(f"{len(quiet)} quiet runs, but at least {FEWEST_RUNS} are needed")
    logs = [normalized(evidence) for evidence in quiet]
    between, within = between_runs(logs)
    raw = np.std([_mean(calibrations(evidence)) for evidence in quiet], ddof=1)
    share, slowed = _residual(quiet, loaded)
    variance = RunVariance.of_runs(between, share, len(quiet), date)
    trouble = [
        f"quiet run {number} was {text}"
        for number, evidence in enumerate(quiet, 1)
        for text in system_samples.trouble(evidence.run.system_samples)
    ]
    return Calibrated(variance, within, float(raw), slowed, tuple(trouble))


def between_runs(runs: Sequence[Logs]) -> tuple[float, float]:
    """Standard deviations between runs and between the processes of a run, in logarithms.

    The variance of the runs' means, pooled over the variants, less the part that their processes
    explain (one-way random effects). It is at least the standard error that it has if it is zero:
    so few runs cannot show a smaller variance.
    """
    names = [name for name in runs[0] if all(len(run.get(name, ())) > 1 for run in runs)]
    if not names:
        raise NotCalibrated("no case has two processes in every run: --processes 2 or more")
    within = np.mean([np.var(run[name], ddof=1) for run in runs for name in names])
    explained = np.mean([np.var(run[n], ddof=1) / len(run[n]) for run in runs for n in names])
    means = np.array([[np.mean(run[name]) for run in runs] for name in names])
    variance = np.mean(np.var(means, axis=1, ddof=1)) - explained
    least = explained * math.sqrt(2 / (len(runs) - 1))
    return math.sqrt(max(variance, least)), math.sqrt(within)


def _residual(quiet: Sequence[Evidence], loaded: Sequence[Evidence]) -> tuple[float, float]:
    """The share of a shift of the raw calibration time that remains in the normalized time."""
    usual = _means([normalized(evidence) for evidence in quiet])
    pace = _means([calibrations(evidence) for evidence in quiet])
    shares: list[float] = []
    shifts: list[float] = []
    for evidence in loaded:
        now = normalized(evidence)
        names = {variant.id: calibration_name(variant) for variant in evidence.variants}
        slower = {
            name: float(np.mean(logs)) - pace[name]
            for name, logs in calibrations(evidence).items()
            if name in pace
        }
        shifts += slower.values()
        shares += [
            abs(float(np.mean(now[variant])) - usual[variant]) / drifted(slower[names[variant]])
            for variant in now
            if variant in usual and slower.get(names[variant], 0.0) > LEAST_SHIFT
        ]
    if not shares:
        raise NotCalibrated("the load slowed nothing down: does it use all processors?")
    return math.sqrt(float(np.mean(np.square(shares)))), math.exp(float(np.mean(shifts)))


def _means(runs: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """The mean of each case, or device, that every run has."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: float(np.mean([np.mean(run[name]) for run in runs])) for name in names}


def _mean(logs: Mapping[str, Sequence[float]]) -> float:
    return float(np.mean([value for values in logs.values() for value in values]))
