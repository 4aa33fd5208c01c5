"""How fast the subjects of a run trained: one logarithm a worker, the unit of evidence."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from xorbench.judge import clocks
from xorbench.judge.evidence import Evidence
from xorbench.judge.stats import Pool, median_log_ratio, pool, spread
from xorbench.observe.records import Training
from xorbench.plan.case import BASE_SETTING, Subject
from xorbench.plan.engines import yardstick_of

NOISY_PERCENT: Final = 10.0
NOISY: Final = f"IQR above {NOISY_PERCENT:g} % of the median"
# What bench/timing_trust.py shows, and no run by itself: the standard deviation from run to run of
# a case's relative figure (a natural logarithm), and the share of a small shift of the raw
# yardstick that comes through into it. Of a large shift more does: with every epoch and every
# yardstick stretched by 80 %, 8 % of the shift (0.3 ms an epoch, long or short).
BETWEEN_RUNS: Final = 0.004
LEAK: Final = 0.02

Logs = dict[str, list[float]]


def log_epoch(training: Training) -> float:
    """Log of the median epoch, in seconds."""
    return math.log(spread(training.epoch_s).median)


def log_relative(training: Training) -> float | None:
    """Log of the median over rounds of epoch ÷ yardstick; None where a round has no yardstick."""
    beside = [seconds for seconds in training.yardstick_s if seconds is not None]
    if len(beside) < len(training.epoch_s):
        return None
    return median_log_ratio(training.epoch_s, beside)


def relative_pool(logs: Mapping[str, Sequence[float]]) -> Pool:
    """Pool relative figures, with what they wander from run to run."""
    return pool(logs, BETWEEN_RUNS)


def by_subject(evidence: Evidence, figure: Callable[[Training], float | None]) -> Logs:
    """A figure of every worker whose clock can be believed, for the subjects that have any."""
    found = {}
    for subject in evidence.subjects:
        values = [figure(training) for training in timed(evidence, subject)]
        logs = [value for value in values if value is not None]
        if logs:
            found[subject.id] = logs
    return found


def timed(evidence: Evidence, subject: Subject) -> list[Training]:
    """The subject's trainings whose times can be believed."""
    trainings = evidence.trainings[subject.id]
    return [one for one in trainings if not any(clocks.flaws(evidence, one))]


def yardsticks(evidence: Evidence) -> Logs:
    """Log of the median raw yardstick in seconds, one a worker, by `yardstick_name`."""
    found: dict[str, dict[str, list[float]]] = {}
    for subject in evidence.subjects:
        workers = found.setdefault(yardstick_name(subject), {})
        for training in evidence.trainings[subject.id]:
            seconds = [value for value in training.yardstick_s if value is not None]
            workers.setdefault(training.worker, []).extend(seconds)
    return {
        name: [math.log(spread(seconds).median) for seconds in workers.values() if seconds]
        for name, workers in found.items()
        if any(workers.values())
    }


def yardstick_name(subject: Subject) -> str:
    """Of the yardstick that a subject is held against: its device, its kind, its setting."""
    name = f"{subject.case.device}, {yardstick_of(subject.case)} yardstick"
    setting = subject.setting.id
    return name if setting == BASE_SETTING else f"{name}, {setting}"


def leaks(a: Evidence, b: Evidence) -> dict[str, float]:
    """What may come through of the shift of its yardstick, for each subject of `b`, as a log."""
    before, after = yardsticks(a), yardsticks(b)
    moved = {
        name: abs(float(np.mean(after[name]) - np.mean(before[name])))
        for name in before.keys() & after.keys()
    }
    return {s.id: leak(moved.get(yardstick_name(s), 0.0)) for s in b.subjects}


def leak(moved: float) -> float:
    """Standard deviation of a relative figure where its yardstick moved so far, both as logs."""
    return LEAK * moved * (1 + 2 * moved)


def by_repeat(evidence: Evidence, subject: Subject) -> dict[int, Training]:
    """The subject's timed trainings by the repeat that they belong to."""
    repeats = {worker.id: worker.repeat for worker in evidence.run.info.workers}
    return {repeats[t.worker]: t for t in timed(evidence, subject)}


def log_ratios(evidence: Evidence, a: Subject, b: Subject) -> list[float]:
    """Log of b's epoch time ÷ a's, paired by round, one for each repeat that has both."""
    mine, peers = by_repeat(evidence, b), by_repeat(evidence, a)
    return [
        median_log_ratio(mine[repeat].epoch_s, peers[repeat].epoch_s)
        for repeat in mine
        if repeat in peers
    ]


def noisy(trainings: Sequence[Training]) -> bool:
    """Whether the epochs of any worker scatter more than `NOISY_PERCENT` of the median."""
    return iqr_percent(trainings) > NOISY_PERCENT


def iqr_percent(trainings: Sequence[Training]) -> float:
    """The widest worker's distance between quartiles, in per cent of its median."""
    spreads = [spread(training.epoch_s) for training in trainings]
    return max(100 * s.iqr / s.median for s in spreads)
