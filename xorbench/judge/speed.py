"""How fast the subjects of a run trained: one logarithm a worker, the unit of evidence."""

import math
from collections.abc import Callable, Sequence
from typing import Final

from xorbench.judge.evidence import Evidence
from xorbench.judge.stats import median_log_ratio, spread
from xorbench.observe.records import Training
from xorbench.plan.case import Subject
from xorbench.plan.engines import yardstick_of

NOISY_PERCENT: Final = 10.0

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


def by_subject(evidence: Evidence, figure: Callable[[Training], float | None]) -> Logs:
    """A figure of every worker, for the subjects of which any worker has it."""
    found = {}
    for subject in evidence.subjects:
        values = [figure(training) for training in evidence.trainings[subject.id]]
        logs = [value for value in values if value is not None]
        if logs:
            found[subject.id] = logs
    return found


def yardsticks(evidence: Evidence) -> Logs:
    """Log of the median raw yardstick in seconds, one a worker, by device and kind."""
    found: dict[str, dict[str, list[float]]] = {}
    for training in evidence.run.trainings:
        seconds = [value for value in training.yardstick_s if value is not None]
        name = f"{training.case.device}, {yardstick_of(training.case)} yardstick"
        workers = found.setdefault(name, {})
        workers.setdefault(training.worker, []).extend(seconds)
    return {
        name: [math.log(spread(seconds).median) for seconds in workers.values() if seconds]
        for name, workers in found.items()
        if any(workers.values())
    }


def by_repeat(evidence: Evidence, subject: Subject) -> dict[int, Training]:
    """The subject's trainings by the repeat that they belong to."""
    repeats = {worker.id: worker.repeat for worker in evidence.run.info.workers}
    return {repeats[t.worker]: t for t in evidence.trainings[subject.id]}


def log_ratios(evidence: Evidence, a: Subject, b: Subject) -> list[float]:
    """Log of b's epoch time ÷ a's, paired by round, one for each repeat that has both."""
    mine, peers = by_repeat(evidence, b), by_repeat(evidence, a)
    return [
        median_log_ratio(mine[repeat].epoch_s, peers[repeat].epoch_s)
        for repeat in mine
        if repeat in peers
    ]


def iqr_percent(trainings: Sequence[Training]) -> float:
    """The widest worker's distance between quartiles, in per cent of its median."""
    spreads = [spread(training.epoch_s) for training in trainings]
    return max(100 * s.iqr / s.median for s in spreads)
