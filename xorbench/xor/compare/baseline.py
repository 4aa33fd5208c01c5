"""A run compared with a saved baseline, by the rule and the limits of `compare`."""

from collections.abc import Sequence
from dataclasses import dataclass

from xorbench.stats.ratio import Ratio, ratio_verdict
from xorbench.verdicts import Verdict, inconclusive
from xorbench.xor.compare.comparison import Comparison, verdicts


@dataclass(frozen=True, slots=True)
class WithBaseline:
    """The comparison of a run, B, with a baseline, A.

    Attributes:
        name: name of the baseline.
        started: when the baseline was run.
        comparison: the result of the comparison.
        is_same_machine: whether both ran on the same machine.
        is_requested: whether the run requested the baseline, so that it affects the exit code.
    """

    name: str
    started: str
    comparison: Comparison
    is_same_machine: bool = True
    is_requested: bool = False

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts that affect the exit code."""
        if not self.is_requested:
            return []
        if not self.comparison.variants:
            return [not_judged(self.name, _why_inconclusive(self.comparison))]
        return verdicts(self.comparison)

    @property
    def sentence(self) -> str:
        """The result as text, with the decisive ratio."""
        whose = "this machine's baseline" if self.is_same_machine else "baseline"
        return _comparison_text(self.comparison, f"{whose} {self.name} of {self.started[:10]}")


def not_judged(name: str, why: str) -> Verdict:
    """The verdict for a requested baseline that judged nothing: inconclusive, not a pass."""
    expected = "a comparison with the baseline"
    hint = f"xorbench baseline save {name} with a run of the same recipe and cases"
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
        return f"compared with {baseline}: {_why_inconclusive(comparison)}"
    faster = all(row.verdict == "faster" for row in comparison.variants)
    pace = "faster than" if faster else "as fast as"
    return f"{pace} {baseline}: {_ratio(comparison, comparison.variants)}"


def _why_inconclusive(comparison: Comparison) -> str:
    """Why a comparison is inconclusive."""
    if comparison.lost:
        return f"{', '.join(comparison.lost)} did not finish"
    if comparison.untimed:
        return f"invalid times: {', '.join(comparison.untimed)}: see the clock check"
    if not comparison.variants:
        return "; ".join(comparison.notes) or "nothing to compare"
    rows = [r for r in (*comparison.variants, *comparison.machine) if r.verdict == "inconclusive"]
    first = max(rows, key=lambda row: row.ratio)
    hint = ratio_verdict("compare", first, 1 + comparison.threshold, advice=comparison.advice).hint
    return f"{first.times} the time of {first.subject}; {hint}"


def _ratio(comparison: Comparison, rows: Sequence[Ratio]) -> str:
    """The slowest of these cases, and their share of all cases."""
    slowest = max(rows, key=lambda row: row.ratio)
    time = "normalized time" if comparison.figures == "relative" else "raw time"
    every = len(comparison.variants)
    if every == 1:
        return f"{slowest.times} the {time}"
    which = (
        f"{len(rows)} of {every} cases" if len(rows) < every else f"the slowest of {every} cases"
    )
    return f"{slowest.times} the {time} ({slowest.subject}, {which})"
