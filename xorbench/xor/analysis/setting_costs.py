"""Ratios of epoch times between cases of one run, paired by round, and the cost of each setting."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xorbench.records.schema.training import TrainingRecord
from xorbench.stats.intervals import LogRatio, Pool, median_log_ratio, pool
from xorbench.stats.ratio import Ratio
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.speed import Logs, samples
from xorbench.xor.matrix.axes import Axis, value_text
from xorbench.xor.matrix.case import Variant
from xorbench.xor.matrix.matrix import edges

VariantPair = tuple[Variant, Variant]
PairAlong = tuple[Axis, Variant, Variant]


def by_index(evidence: Evidence, variant: Variant) -> dict[int, TrainingRecord]:
    """The variant's timed trainings by the index of their process under its config."""
    indices = {process.id: process.index for process in evidence.run.info.processes}
    return {indices[t.process]: t for t in evidence.timed[variant.id]}


def log_ratios(evidence: Evidence, a: Variant, b: Variant) -> list[float]:
    """Log of b's epoch time ÷ a's, paired by round, one per process with both."""
    before, after = by_index(evidence, a), by_index(evidence, b)
    return [
        median_log_ratio(after[index].epoch_s, before[index].epoch_s)
        for index in after
        if index in before
    ]


def pair_pool(evidence: Evidence, pairs: Mapping[str, VariantPair]) -> Pool:
    """The log ratios of the timed pairs by name, pooled."""
    logs = {name: log_ratios(evidence, *pair) for name, pair in pairs.items()}
    return pool({name: ratios for name, ratios in logs.items() if ratios})


def log_speedups(evidence: Evidence) -> Logs:
    """Log of a variant's samples/s over the first variant's, paired by round within a process."""
    speedups: Logs = {}
    for first, variant in ((evidence.variants[0], later) for later in evidence.variants[1:]):
        gain = math.log(samples(variant)) - math.log(samples(first))
        logs = [gain - slower for slower in log_ratios(evidence, first, variant)]
        if logs:
            speedups[variant.id] = logs
    return speedups


# Costs


@dataclass(frozen=True, slots=True)
class Cost:
    """Epoch time at one value of a setting ÷ epoch time at another, over all their pairs.

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


def pairs(variants: Sequence[Variant], axis: Axis | None = None) -> list[PairAlong]:
    """Pairs of variants that differ in one axis only: its first value with each other value."""
    return [
        (varied, members[0], variant)
        for varied, members in edges(list(variants))
        if axis is None or varied is axis
        for variant in members[1:]
    ]


def by_setting(evidence: Evidence) -> list[Cost]:
    """One row per change of a setting: the geometric mean over all its pairs."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    by_axis: dict[str, dict[str, VariantPair]] = {}
    for axis, a, b in pairs(evidence.variants):
        name, values = f"{a.id} {b.id}", [value_text(axis.value(side)) for side in (a, b)]
        groups.setdefault((axis.name, values[0], values[1]), []).append(name)
        by_axis.setdefault(axis.name, {})[name] = a, b
    pools = {axis: pair_pool(evidence, members) for axis, members in by_axis.items()}
    return [
        _cost(key, by_axis[key[0]][timed[0]][0].id, [pools[key[0]].log_ratio(n) for n in timed])
        for key, names in groups.items()
        if (timed := [name for name in names if name in pools[key[0]].means])
    ]


def _cost(key: tuple[str, str, str], example: str, log_ratios: Sequence[LogRatio]) -> Cost:
    """The mean over pairs, with the fewest processes of any: all share their processes."""
    least = min(log_ratios, key=lambda log_ratio: log_ratio.processes)
    mean = replace(least, log=float(np.mean([log_ratio.log for log_ratio in log_ratios])))
    each = [float(np.exp(log_ratio.log)) for log_ratio in log_ratios]
    setting, before, after = key
    return Cost(
        setting=setting,
        before=before,
        after=after,
        example=example,
        ratio=Ratio.from_figure(mean.ratio()),
        pairs=len(each),
        lowest=min(each),
        highest=max(each),
    )
