"""The scatter of one machine: how much its runs differ though nothing has changed.

No run shows it by itself. `calibrate` makes several, some of them beside other load; the result
replaces the scatter that was measured on another machine.
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
    """The scatter cannot be computed from the runs."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The scatter of a machine, and the measurements it was computed from.

    Attributes:
        scatter: what `compare` is to use.
        within: standard deviation between the processes of one run.
        raw: standard deviation from run to run of the raw calibration time.
        slowed: how much slower the raw calibration time was under load, as a ratio.
        trouble: what disturbed the quiet runs, of each one that was disturbed.
    """

    scatter: RunVariance
    within: float
    raw: float
    slowed: float
    trouble: tuple[str, ...] = ()


def calibrated(quiet: Sequence[Evidence], loaded: Sequence[Evidence], date: str) -> Calibrated:
    """The scatter of quiet runs, and of runs beside other load, of one plan and machine.

    Raises `NotCalibrated` for too few runs, or a load that has slowed nothing down.
    """
    if len(quiet) < FEWEST_RUNS:
        raise NotCalibrated(f"{len(quiet)} quiet runs are too few: {FEWEST_RUNS} at least")
    logs = [normalized(evidence) for evidence in quiet]
    between, within = between_runs(logs)
    raw = np.std([_mean(calibrations(evidence)) for evidence in quiet], ddof=1)
    share, slowed = _residual(quiet, loaded)
    scatter = RunVariance.of_runs(between, share, len(quiet), date)
    trouble = [
        f"quiet run {number} was {text}"
        for number, evidence in enumerate(quiet, 1)
        for text in system_samples.trouble(evidence.run.system_samples)
    ]
    return Calibrated(scatter, within, float(raw), slowed, tuple(trouble))


def between_runs(runs: Sequence[Logs]) -> tuple[float, float]:
    """Standard deviations between runs and between the processes of a run, of one logarithm each.

    The variance of the runs' means, pooled over the variants, less what their processes explain
    (one-way random effects). It is not taken to be smaller than its own standard error where there
    is none: so few runs could not show a smaller one.
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
    moves: list[float] = []
    for evidence in loaded:
        now = normalized(evidence)
        names = {variant.id: calibration_name(variant) for variant in evidence.variants}
        slower = {
            name: float(np.mean(logs)) - pace[name]
            for name, logs in calibrations(evidence).items()
            if name in pace
        }
        moves += slower.values()
        shares += [
            abs(float(np.mean(now[variant])) - usual[variant]) / drifted(slower[names[variant]])
            for variant in now
            if variant in usual and slower.get(names[variant], 0.0) > LEAST_SHIFT
        ]
    if not shares:
        raise NotCalibrated("the load has slowed nothing down: are there more processors than it?")
    return math.sqrt(float(np.mean(np.square(shares)))), math.exp(float(np.mean(moves)))


def _means(runs: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """The mean of each case, or device, that every run has: one may have lost one."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: float(np.mean([np.mean(run[name]) for run in runs])) for name in names}


def _mean(logs: Mapping[str, Sequence[float]]) -> float:
    return float(np.mean([value for values in logs.values() for value in values]))
