"""Judge one run along one axis: is another value slower, and did it do to the bits what it must?

Each pair was timed in the same rounds of one run, so raw times are compared, paired by round.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from msgspec import Struct

from xorbench.records.schema.run import Run
from xorbench.state_digest import first_difference
from xorbench.stats.ratio import Ratio, judged_shifts, ratio_verdict
from xorbench.stats.thresholds import THRESHOLD
from xorbench.verdicts import Verdict, inconclusive, judged
from xorbench.xor.analysis import setting_costs, settings_table
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.setting_costs import VariantPair, by_index, pair_pool
from xorbench.xor.compare import comparison
from xorbench.xor.compare.comparison import ComparisonOutcome, quieter, remarks, untimed_verdicts
from xorbench.xor.matrix.axes import Axis, value_text
from xorbench.xor.matrix.case import Variant

SCHEMA_VERSION: Final = 2


class AxisPair(Struct, frozen=True, kw_only=True):
    """Two variants that differ in one setting alone: `speed` is B's epoch time ÷ A's.

    `diverged_epoch` is the first epoch, from 0, whose digests differ, None where all are equal;
    `bits` is what the setting must do to them, and `broken` whether it did not.
    """

    a: str
    b: str
    value_a: str
    value_b: str
    speed: Ratio
    diverged_epoch: int | None
    bits: str
    reason: str
    broken: bool

    @property
    def seen(self) -> str:
        """How the bits compare, in words."""
        if self.diverged_epoch is None:
            return "equal"
        return f"diverge at epoch {self.diverged_epoch}"


class AxisComparison(Struct, frozen=True, kw_only=True):
    """The result of comparing the values of one setting.

    `lost` are the cases that were planned and not finished; `untimed` were finished, and none of
    their times can be believed.
    """

    schema_version: int = SCHEMA_VERSION
    run: str
    setting: str
    threshold: float
    pairs: list[AxisPair]
    lost: list[str]
    untimed: list[str] = []
    notes: list[str]
    advice: str = ""  # how to settle an open ratio, where more processes are not the way
    outcome: ComparisonOutcome


def by_verdicts(result: AxisComparison) -> list[Verdict]:
    """The speed and the bits of each pair as verdicts, for a CI."""
    verdicts = []
    for pair in result.pairs:
        cause = f"find what {result.setting} {pair.value_b} does that {pair.value_a} does not"
        limit = 1 + result.threshold
        pair_verdict = partial(ratio_verdict, slower=cause, again="run again", advice=result.advice)
        verdicts.append(pair_verdict("compare", pair.speed, limit))
        subject = f"{result.setting} {pair.value_a},{pair.value_b}: {pair.b}"
        wrong = pair.seen if pair.broken else ""
        verdicts.append(judged("invariance", subject, pair.bits, wrong, pair.seen, pair.reason))
    expected, hint = "trains to the end", f"see why it did not: report {result.run}"
    verdicts += [inconclusive("compare", case, expected, "lost", hint) for case in result.lost]
    return verdicts + untimed_verdicts(result.untimed, f"report {result.run}")


def by_axis(run: Run, axis: Axis, *, threshold: float = THRESHOLD) -> AxisComparison:
    """Judge the axis' first value against each other one; `threshold` is a share (0.05)."""
    evidence = Evidence(run)
    planned = planned_pairs(evidence, axis)
    finished = {b.id: (a, b) for a, b in planned if _finished(evidence, a, b)}
    pool = pair_pool(evidence, finished)
    shifts = {name: pool.log_ratio(name) for name in pool.means}
    speeds = {row.subject: row for row in judged_shifts(shifts, 1 + threshold)}
    pairs = [_judged(evidence, axis, a, b, speeds[b.id]) for a, b in planned if b.id in speeds]
    left = [b.id for _, b in planned if b.id not in speeds]
    untimed = [name for name in left if name in finished]
    lost = [name for name in left if name not in untimed]
    return AxisComparison(
        run=run.info.id,
        setting=axis.name,
        threshold=threshold,
        pairs=pairs,
        lost=lost,
        untimed=untimed,
        notes=[f"the run {text}" for text in remarks(run)],
        advice=quieter({"it": run}),
        outcome=verdict(pairs, left),
    )


def planned_pairs(evidence: Evidence, axis: Axis) -> list[VariantPair]:
    """What the run set out to train along the axis: the first value with each other one."""
    skipped = {skip.case.id for skip in evidence.run.skips}
    variants = [variant for variant in evidence.planned if variant.case.id not in skipped]
    return [(a, b) for _, a, b in setting_costs.pairs(variants, axis)]


def verdict(pairs: Sequence[AxisPair], lost: Sequence[str]) -> ComparisonOutcome:
    """As of two runs; bits that are not as they must be fail as well."""
    broken = any(pair.broken for pair in pairs)
    return "fail" if broken else comparison.verdict([pair.speed for pair in pairs], [], lost)


def _finished(evidence: Evidence, a: Variant, b: Variant) -> bool:
    """Whether some process finished each."""
    return a.id in evidence.trainings and b.id in evidence.trainings


def _judged(evidence: Evidence, axis: Axis, a: Variant, b: Variant, speed: Ratio) -> AxisPair:
    diverged = _diverged(evidence, a, b)
    pair = replace(settings_table.pair(axis, a, b, evidence), diverged=diverged)
    return AxisPair(
        a=a.id,
        b=b.id,
        value_a=value_text(axis.value(a)),
        value_b=value_text(axis.value(b)),
        speed=speed,
        diverged_epoch=diverged,
        bits=settings_table.must(pair.expectation.bits),
        reason=pair.expectation.reason,
        broken=pair.broken,
    )


def _diverged(evidence: Evidence, a: Variant, b: Variant) -> int | None:
    """The first epoch that differs in any process that finished both."""
    before, after = by_index(evidence, a), by_index(evidence, b)
    epochs = [
        first_difference(before[index].epoch_digests, after[index].epoch_digests)
        for index in before
        if index in after
    ]
    return min((epoch for epoch in epochs if epoch is not None), default=None)
