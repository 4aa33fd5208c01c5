"""A run and a saved baseline: is it as fast? By the rule and the limits of `compare`."""

from collections.abc import Sequence
from dataclasses import dataclass

from xorbench.stats.ratio import Ratio, ratio_verdict
from xorbench.verdicts import Verdict, inconclusive
from xorbench.xor.compare.comparison import Comparison, verdicts


@dataclass(frozen=True, slots=True)
class WithBaseline:
    """The comparison of a run, B, with a baseline, A.

    Attributes:
        name: of the baseline.
        started: when the baseline was run.
        comparison: the result of the comparison.
        is_same_machine: whether both ran on one.
        is_requested: whether the run was to be judged by it, so that it counts for the exit code.
    """

    name: str
    started: str
    comparison: Comparison
    is_same_machine: bool = True
    is_requested: bool = False

    @property
    def verdicts(self) -> list[Verdict]:
        """What counts for the exit code."""
        if not self.is_requested:
            return []
        if not self.comparison.variants:
            return [not_judged(self.name, _why_open(self.comparison))]
        return verdicts(self.comparison)

    @property
    def sentence(self) -> str:
        """The result in words, with the ratio that decides."""
        whose = "this machine's baseline" if self.is_same_machine else "baseline"
        return _comparison_text(self.comparison, f"{whose} {self.name} of {self.started[:10]}")


def not_judged(name: str, why: str) -> Verdict:
    """That the baseline which was asked for judged nothing, which is no pass."""
    expected = "a comparison with it"
    hint = f"baseline save {name}, with a run of the same recipe and cases"
    return inconclusive("compare", f"baseline {name}", expected, why, hint)


def _comparison_text(comparison: Comparison, baseline: str) -> str:
    slower = [row for row in comparison.variants if row.verdict == "slower"]
    reasons = [_ratio(comparison, slower)] if slower else []
    reasons += [
        f"the machine takes {row.times} the time ({row.subject})"
        for row in comparison.machine
        if row.verdict == "slower"
    ]
    if reasons:
        return f"slower than {baseline}: {'; '.join(reasons)}"
    if comparison.outcome == "inconclusive":
        return f"beside {baseline}: {_why_open(comparison)}"
    faster = all(row.verdict == "faster" for row in comparison.variants)
    pace = "faster than" if faster else "as fast as"
    return f"{pace} {baseline}: {_ratio(comparison, comparison.variants)}"


def _why_open(comparison: Comparison) -> str:
    """Why a comparison is inconclusive."""
    if comparison.lost:
        return f"{', '.join(comparison.lost)} did not come to an end"
    if comparison.untimed:
        return f"no time of {', '.join(comparison.untimed)} can be believed: see the clock check"
    if not comparison.variants:
        return "; ".join(comparison.notes) or "nothing to compare"
    rows = [r for r in (*comparison.variants, *comparison.machine) if r.verdict == "inconclusive"]
    first = max(rows, key=lambda row: row.ratio)
    hint = ratio_verdict("compare", first, 1 + comparison.threshold, advice=comparison.advice).hint
    return f"{first.times} the time of {first.subject}; {hint}"


def _ratio(comparison: Comparison, rows: Sequence[Ratio]) -> str:
    """The slowest of these cases, and how many they are of all."""
    slowest = max(rows, key=lambda row: row.ratio)
    time = "normalized time" if comparison.figures == "relative" else "raw time"
    every = len(comparison.variants)
    if every == 1:
        return f"{slowest.times} the {time}"
    which = (
        f"{len(rows)} of {every} cases" if len(rows) < every else f"the slowest of {every} cases"
    )
    return f"{slowest.times} the {time} ({slowest.subject}, {which})"
