"""What each setting costs here: times of one run, paired by round along one axis."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xorbench.judge.evidence import Evidence
from xorbench.judge.speed import log_ratios
from xorbench.judge.stats import Estimate, pooled
from xorbench.plan.axes import Axis, value_text
from xorbench.plan.case import Subject
from xorbench.plan.matrix import edges


@dataclass(frozen=True, slots=True)
class Cost:
    """Epoch time ÷ epoch time between two values of a setting, in one group or over several."""

    axis: Axis
    before: str
    after: str
    example: str
    ratio: Estimate
    pairs: int
    lowest: float
    highest: float


def pairs(evidence: Evidence, axis: Axis | None = None) -> list[tuple[Axis, Subject, Subject]]:
    """Every two subjects that differ in one axis alone, the first value against each other."""
    return [
        (one, members[0], other)
        for one, members in edges(evidence.subjects)
        if axis is None or one is axis
        for other in members[1:]
    ]


def by_pair(evidence: Evidence, axis: Axis) -> list[Cost]:
    """The ratio of each pair along one axis, with intervals pooled over them."""
    found = {
        (a, b): logs for _, a, b in pairs(evidence, axis) if (logs := log_ratios(evidence, a, b))
    }
    estimates = pooled({f"{a.id} {b.id}": logs for (a, b), logs in found.items()})
    return [
        _cost(axis, a, b, estimates[f"{a.id} {b.id}"], [float(np.exp(np.mean(logs)))])
        for (a, b), logs in found.items()
    ]


def by_setting(evidence: Evidence) -> list[Cost]:
    """One row for each change of a setting: the geometric mean over all pairs that show it."""
    groups: dict[str, list[tuple[Axis, Subject, Subject]]] = {}
    tables: dict[str, list[list[float]]] = {}
    for axis, a, b in pairs(evidence):
        logs = log_ratios(evidence, a, b)
        if logs:
            key = f"{axis.name} {value_text(axis.value(a))} {value_text(axis.value(b))}"
            groups.setdefault(key, []).append((axis, a, b))
            tables.setdefault(key, []).append(logs)
    estimates = pooled({key: _mean_by_repeat(table) for key, table in tables.items()})
    return [
        _cost(*members[0], estimates[key], [float(np.exp(np.mean(row))) for row in tables[key]])
        for key, members in groups.items()
    ]


def _mean_by_repeat(table: Sequence[Sequence[float]]) -> list[float]:
    """The mean over pairs, for as many repeats as every pair has."""
    return [float(np.mean(column)) for column in zip(*table, strict=False)]


def _cost(axis: Axis, a: Subject, b: Subject, ratio: Estimate, each: Sequence[float]) -> Cost:
    return Cost(
        axis=axis,
        before=value_text(axis.value(a)),
        after=value_text(axis.value(b)),
        example=a.id,
        ratio=ratio,
        pairs=len(each),
        lowest=min(each),
        highest=max(each),
    )
