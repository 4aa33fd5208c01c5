"""Ratios of epoch times between cases of one run, paired by round, and the cost of each setting."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xorbench.judge.evidence import Evidence
from xorbench.judge.ratio import Ratio
from xorbench.judge.speed import Logs
from xorbench.judge.stats import Pool, median_log_ratio, pool
from xorbench.observe.records.training import TrainingRecord
from xorbench.plan.axes import Axis, value_text
from xorbench.plan.case import Variant
from xorbench.plan.matrix import edges

VariantPair = tuple[Variant, Variant]
AxisPair = tuple[Axis, Variant, Variant]


def by_index(evidence: Evidence, variant: Variant) -> dict[int, TrainingRecord]:
    """The variant's timed trainings by the index of their process under its config."""
    indices = {process.id: process.index for process in evidence.run.info.processes}
    return {indices[t.process]: t for t in evidence.timed[variant.id]}


def log_ratios(evidence: Evidence, a: Variant, b: Variant) -> list[float]:
    """Log of b's epoch time ÷ a's, paired by round, one for each process that has both."""
    before, after = by_index(evidence, a), by_index(evidence, b)
    return [
        median_log_ratio(after[index].epoch_s, before[index].epoch_s)
        for index in after
        if index in before
    ]


def pair_pool(evidence: Evidence, pairs: Iterable[VariantPair]) -> Pool:
    """The log ratios of the pairs that some process timed, by `pair_name`."""
    logs = {pair_name(a, b): log_ratios(evidence, a, b) for a, b in pairs}
    return pool({name: ratios for name, ratios in logs.items() if ratios})


def pair_name(a: Variant, b: Variant) -> str:
    """The key of a pair in a pool."""
    return f"{a.id} {b.id}"


def log_speedups(evidence: Evidence) -> Logs:
    """Log of a variant's samples/s over the first variant's, paired by round within a process."""
    found: Logs = {}
    for first, variant in ((evidence.variants[0], other) for other in evidence.variants[1:]):
        gain = _log_samples(variant) - _log_samples(first)
        logs = [gain - slower for slower in log_ratios(evidence, first, variant)]
        if logs:
            found[variant.id] = logs
    return found


def _log_samples(variant: Variant) -> float:
    return math.log(variant.recipe.samples(variant.case.batch_size, variant.case.drop_last))


# Costs


@dataclass(frozen=True, slots=True)
class Cost:
    """Epoch time ÷ epoch time between two values of a setting, over all pairs that show it.

    `lowest` and `highest` are the ratios of single pairs; `example` is the first case.
    """

    setting: str
    before: str
    after: str
    example: str
    ratio: Ratio
    pairs: int
    lowest: float
    highest: float


def pairs(variants: Sequence[Variant], axis: Axis | None = None) -> list[AxisPair]:
    """Every two variants that differ in one axis alone, the first value against each other."""
    return [
        (varied, members[0], other)
        for varied, members in edges(list(variants))
        if axis is None or varied is axis
        for other in members[1:]
    ]


def by_setting(evidence: Evidence) -> list[Cost]:
    """One row for each change of a setting: the geometric mean over all pairs that show it."""
    groups: dict[tuple[str, str, str], list[AxisPair]] = {}
    by_axis: dict[Axis, list[VariantPair]] = {}
    for axis, a, b in pairs(evidence.variants):
        key = axis.name, value_text(axis.value(a)), value_text(axis.value(b))
        groups.setdefault(key, []).append((axis, a, b))
        by_axis.setdefault(axis, []).append((a, b))
    pools = {axis: pair_pool(evidence, members) for axis, members in by_axis.items()}
    return [
        _cost(key, pools[members[0][0]], timed)
        for key, members in groups.items()
        if (timed := [(a, b) for axis, a, b in members if pair_name(a, b) in pools[axis].means])
    ]


def _cost(key: tuple[str, str, str], of: Pool, members: Sequence[VariantPair]) -> Cost:
    """Over several pairs, as sure as the least sure of them: all come from the same processes."""
    log_ratios = [of.log_ratio(pair_name(a, b)) for a, b in members]
    least = min(log_ratios, key=lambda log_ratio: log_ratio.processes)
    mean = replace(least, log=float(np.mean([log_ratio.log for log_ratio in log_ratios])))
    each = [float(np.exp(log_ratio.log)) for log_ratio in log_ratios]
    setting, before, after = key
    return Cost(
        setting=setting,
        before=before,
        after=after,
        example=members[0][0].id,
        ratio=Ratio.of(mean.ratio()),
        pairs=len(each),
        lowest=min(each),
        highest=max(each),
    )
