"""The time of a step, from records of the clock alone; a process is the unit of evidence."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from xorbench.judge.against import SideTime, StepSpeed
from xorbench.judge.figure import Figure
from xorbench.judge.ratio import judged
from xorbench.judge.stats import estimates, pool
from xorbench.observe.trace import TraceEnd, TraceFile, TraceStep

VARIANT: Final = "step"


@dataclass(frozen=True, slots=True)
class ClockedRun:
    """The steps of one run: how many periods were timed, and their median (s)."""

    timed: int
    median_s: float | None


def clocked(traces: Sequence[TraceFile], skip: int) -> ClockedRun:
    """The median period of the process that made most steps; the first `skip` do not count."""
    found = [periods(trace.lines()) for trace in traces]
    most = max(found, key=len, default=[])[skip:]
    return ClockedRun(len(most), float(np.median(most)) if most else None)


def periods(lines: Iterable[TraceStep | TraceEnd]) -> list[float]:
    """Seconds from each step of the optimizer that steps most to its next, less the recorder's own.

    Of several optimizers one counts, so that a period is an iteration.
    """
    begins: dict[str, list[float]] = {}
    spent = 0.0
    for line in lines:
        if isinstance(line, TraceStep):
            spent += line.recorder_s
            names = [event.identity for event in line.events if event.kind == "clock"]
            begins.setdefault(names[0] if names else "", []).append(line.at_s - spent)
    most = max(begins.values(), key=len, default=[])
    return [later - earlier for earlier, later in pairwise(most)]


def step_speed(
    a: Sequence[ClockedRun], b: Sequence[ClockedRun], threshold: float, skip: int
) -> StepSpeed:
    """B's step against A's, by the rule of `compare`: each process is one sample."""
    for name, runs in (("A", a), ("B", b)):
        fewest = min((run.timed for run in runs), default=0)
        if not fewest:
            why = f"{name} has no more than {skip + 1} steps in a run, of which {skip} are skipped"
            return StepSpeed("inconclusive", threshold, why)
        if any(not run.median_s or run.median_s <= 0 for run in runs):
            return StepSpeed("inconclusive", threshold, f"the clock of {name} stood still")
    sides = [[math.log(run.median_s) for run in runs if run.median_s] for runs in (a, b)]
    before, after = (pool({VARIANT: logs}) for logs in sides)
    (ratio,) = judged(before, after, 1 + threshold)
    times = [_side(estimates(side)[VARIANT], runs) for side, runs in ((before, a), (after, b))]
    return StepSpeed(
        ratio.verdict,
        threshold,
        ratio=ratio,
        a=times[0],
        b=times[1],
    )


def _side(found: Figure, runs: Sequence[ClockedRun]) -> SideTime:
    timed = [run.timed for run in runs]
    return SideTime(found.value, found.low, found.high, found.processes, (min(timed), max(timed)))
