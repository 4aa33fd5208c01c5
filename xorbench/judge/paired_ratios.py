"""What each setting costs here: times of one run, paired by round along one axis."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xorbench.judge.evidence import Evidence
from xorbench.judge.speed import log_ratios
from xorbench.judge.stats import Estimate, Pool, interval, pool
from xorbench.plan.axes import Axis, value_text
from xorbench.plan.case import Variant
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


def pairs(
    variants: Sequence[Variant], axis: Axis | None = None
) -> list[tuple[Axis, Variant, Variant]]:
    """Every two variants that differ in one axis alone, the first value against each other."""
    return [
        (one, members[0], other)
        for one, members in edges(list(variants))
        if axis is None or one is axis
        for other in members[1:]
    ]


def by_setting(evidence: Evidence) -> list[Cost]:
    """One row for each change of a setting: the geometric mean over all pairs that show it."""
    groups: dict[tuple[str, str, str], list[tuple[Axis, Variant, Variant]]] = {}
    for axis, a, b in pairs(evidence.variants):
        key = axis.name, value_text(axis.value(a)), value_text(axis.value(b))
        groups.setdefault(key, []).append((axis, a, b))
    axes = dict.fromkeys(axis for members in groups.values() for axis, _, _ in members)
    pools = {axis: _pool_of_pairs(evidence, axis) for axis in axes}
    return [
        _mean_cost(pools[members[0][0]], measured)
        for members in groups.values()
        if (measured := [m for m in members if _name(*m[1:]) in pools[m[0]].means])
    ]


def _pool_of_pairs(evidence: Evidence, axis: Axis) -> Pool:
    found = {_name(a, b): log_ratios(evidence, a, b) for _, a, b in pairs(evidence.variants, axis)}
    return pool({name: logs for name, logs in found.items() if logs})


def _name(a: Variant, b: Variant) -> str:
    return f"{a.id} {b.id}"


def _mean_cost(of: Pool, members: Sequence[tuple[Axis, Variant, Variant]]) -> Cost:
    """Over several pairs, as sure as the least sure of them: all come from the same processes."""
    names = [_name(a, b) for _, a, b in members]
    means = [of.means[name] for name in names]
    least = min(names, key=lambda name: of.processes[name])
    mean = float(np.mean(means))
    ratio = interval(mean, of.variance(least), of.dof_of(least), of.processes[least])
    return _cost(*members[0], ratio, [float(np.exp(one)) for one in means])


def _cost(axis: Axis, a: Variant, b: Variant, ratio: Estimate, each: Sequence[float]) -> Cost:
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
