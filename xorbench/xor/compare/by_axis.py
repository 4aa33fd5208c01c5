"""Judge one run along one axis: is a value slower, and does it affect the bits as required?

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
    """Two variants that differ in one setting: `speed` is B's epoch time ÷ A's.

    `diverged_epoch` is the first epoch, from 0, with different digests; None if all are identical.
    `bits` is the required effect on the bits, and `broken` whether it is violated.
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
        """The comparison of the bits, as text."""
        if self.diverged_epoch is None:
            return "identical"
        return f"diverge at epoch {self.diverged_epoch}"


class AxisComparison(Struct, frozen=True, kw_only=True):
    """The result of comparing the values of one setting.

    `lost` are planned cases that did not finish; `untimed` finished without valid times.
    """

    schema_version: int = SCHEMA_VERSION
    run: str
    setting: str
    threshold: float
    pairs: list[AxisPair]
    lost: list[str]
    untimed: list[str] = []
    notes: list[str]
    advice: str = ""  # how to resolve an inconclusive ratio if more processes do not help
    outcome: ComparisonOutcome


def by_verdicts(result: AxisComparison) -> list[Verdict]:
    """The speed and the bits of each pair as verdicts."""
    verdicts = []
    for pair in result.pairs:
        cause = f"find out why {result.setting} {pair.value_b} is slower than {pair.value_a}"
        limit = 1 + result.threshold
        pair_verdict = partial(ratio_verdict, slower=cause, again="rerun", advice=result.advice)
        verdicts.append(pair_verdict("compare", pair.speed, limit))
        subject = f"{result.setting} {pair.value_a},{pair.value_b}: {pair.b}"
        wrong = pair.seen if pair.broken else ""
        verdicts.append(judged("invariance", subject, pair.bits, wrong, pair.seen, pair.reason))
    expected, hint = "trains to the end", f"see why it did not finish: report {result.run}"
    verdicts += [
        inconclusive("compare", case, expected, "not finished", hint) for case in result.lost
    ]
    return verdicts + untimed_verdicts(result.untimed, f"report {result.run}")


def by_axis(run: Run, axis: Axis, *, threshold: float = THRESHOLD) -> AxisComparison:
    """Compare the first value of an axis with each other value; `threshold` is a share (0.05)."""
    evidence = Evidence(run)
    planned = planned_pairs(evidence, axis)
    finished = {b.id: (a, b) for a, b in planned if _finished(evidence, a, b)}
    pool = pair_pool(evidence, finished)
    shifts = {name: pool.log_ratio(name) for name in pool.means}
    speeds = {row.subject: row for row in judged_shifts(shifts, 1 + threshold)}
    pairs = [_judged(evidence, axis, a, b, speeds[b.id]) for a, b in planned if b.id in speeds]
    missing = [b.id for _, b in planned if b.id not in speeds]
    untimed = [name for name in missing if name in finished]
    lost = [name for name in missing if name not in untimed]
    return AxisComparison(
        run=run.info.id,
        setting=axis.name,
        threshold=threshold,
        pairs=pairs,
        lost=lost,
        untimed=untimed,
        notes=[f"the run {text}" for text in remarks(run)],
        advice=quieter({"it": run}),
        outcome=verdict(pairs, missing),
    )


def planned_pairs(evidence: Evidence, axis: Axis) -> list[VariantPair]:
    """The planned pairs along the axis: the first value with each other value."""
    skipped = {skip.case.id for skip in evidence.run.skips}
    variants = [variant for variant in evidence.planned if variant.case.id not in skipped]
    return [(a, b) for _, a, b in setting_costs.pairs(variants, axis)]


def verdict(pairs: Sequence[AxisPair], lost: Sequence[str]) -> ComparisonOutcome:
    """The outcome as for two runs; a violated expectation of the bits fails, too."""
    broken = any(pair.broken for pair in pairs)
    return "fail" if broken else comparison.verdict([pair.speed for pair in pairs], [], lost)


def _finished(evidence: Evidence, a: Variant, b: Variant) -> bool:
    """Whether each variant finished in a process."""
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
    """The first epoch with different digests in any process with both variants."""
    before, after = by_index(evidence, a), by_index(evidence, b)
    epochs = [
        first_difference(before[index].epoch_digests, after[index].epoch_digests)
        for index in before
        if index in after
    ]
    return min((epoch for epoch in epochs if epoch is not None), default=None)
