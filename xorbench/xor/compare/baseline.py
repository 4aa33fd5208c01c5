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
        found: the result of the comparison.
        is_same_machine: whether both ran on one.
        is_asked: whether the run was to be judged by it, so that it counts for the exit code.
    """

    name: str
    started: str
    found: Comparison
    is_same_machine: bool = True
    is_asked: bool = False

    @property
    def verdicts(self) -> list[Verdict]:
        """What counts for the exit code."""
        if not self.is_asked:
            return []
        if not self.found.variants:
            return [not_judged(self.name, _why_open(self.found))]
        return verdicts(self.found)

    @property
    def sentence(self) -> str:
        """The result in words, with the ratio that decides."""
        whose = "this machine's baseline" if self.is_same_machine else "baseline"
        return _said(self.found, f"{whose} {self.name} of {self.started[:10]}")


def not_judged(name: str, why: str) -> Verdict:
    """That the baseline which was asked for judged nothing, which is no pass."""
    expected = "a comparison with it"
    hint = f"save-baseline {name}, with a run of the same recipe and cases"
    return inconclusive("compare", f"baseline {name}", expected, why, hint)


def _said(found: Comparison, baseline: str) -> str:
    slower = [row for row in found.variants if row.verdict == "slower"]
    said = [_ratio(found, slower)] if slower else []
    said += [
        f"the machine takes {row.times} the time ({row.subject})"
        for row in found.machine
        if row.verdict == "slower"
    ]
    if said:
        return f"slower than {baseline}: {'; '.join(said)}"
    if found.outcome == "inconclusive":
        return f"beside {baseline}: {_why_open(found)}"
    faster = all(row.verdict == "faster" for row in found.variants)
    return (
        f"{'faster than' if faster else 'as fast as'} {baseline}: {_ratio(found, found.variants)}"
    )


def _why_open(found: Comparison) -> str:
    """Why a comparison is inconclusive."""
    if found.lost:
        return f"{', '.join(found.lost)} did not come to an end"
    if found.untimed:
        return f"no time of {', '.join(found.untimed)} can be believed: see the clock check"
    if not found.variants:
        return "; ".join(found.notes) or "nothing to compare"
    rows = [r for r in (*found.variants, *found.machine) if r.verdict == "inconclusive"]
    first = max(rows, key=lambda row: row.ratio)
    hint = ratio_verdict("compare", first, 1 + found.threshold, advice=found.advice).hint
    return f"{first.times} the time of {first.subject}; {hint}"


def _ratio(found: Comparison, rows: Sequence[Ratio]) -> str:
    """The slowest of these cases, and how many they are of all."""
    slowest = max(rows, key=lambda row: row.ratio)
    time = "normalized time" if found.figures == "relative" else "raw time"
    every = len(found.variants)
    if every == 1:
        return f"{slowest.times} the {time}"
    which = (
        f"{len(rows)} of {every} cases" if len(rows) < every else f"the slowest of {every} cases"
    )
    return f"{slowest.times} the {time} ({slowest.subject}, {which})"
