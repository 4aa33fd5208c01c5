"""The ratio of B's time to A's with its interval, and its verdict."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from xorbench.stats.figure import Figure
from xorbench.stats.intervals import ALPHA, LogRatio, Pool, holm, shift
from xorbench.verdicts import Verdict, failed, inconclusive, passed

NO_INTERVAL: Final = "one process has no interval"
BOTH: Final = "rerun both"
FIXED: Final = (
    "the processes of an imported file are fixed: compare two runs of xorbench, or exports of runs"
    " with more processes"
)
SLOWER: Final = "profile an epoch of the slower case; diff A B compares the computations"

Speed = Literal["same", "slower", "faster", "inconclusive"]


class Ratio(Struct, frozen=True, kw_only=True):
    """B's time ÷ A's, of one case, device or step; lower is faster.

    Attributes:
        subject: the case or device; empty if there is only one.
        ratio: the estimate.
        low: the lower end of its 95% interval between processes; None for a single process. The
            intervals of several ratios are widened by Holm's correction.
        high: the upper end.
        p: the p-value of the ratio, adjusted for several ratios.
        processes: the number of measured processes.
        verdict: the result against a threshold; inconclusive before it is judged.
        note: a remark for its row.
    """

    subject: str = ""
    ratio: float
    low: float | None
    high: float | None
    p: float | None = None
    processes: int
    verdict: Speed = "inconclusive"
    note: str = ""

    @classmethod
    def from_figure(cls, figure: Figure, subject: str = "") -> "Ratio":
        """An estimate as a ratio without a verdict."""
        return cls(
            subject=subject,
            ratio=figure.value,
            low=figure.low,
            high=figure.high,
            processes=figure.processes,
        )

    @property
    def figure(self) -> Figure:
        """The ratio as a figure for tables."""
        return Figure(self.ratio, self.low, self.high, self.processes)

    @property
    def times(self) -> str:
        """The ratio in a sentence, such as `1.070× [1.050, 1.090]`."""
        figure = Figure(self.ratio, self.low, self.high, unit="×")
        return figure.text(".3f", no_bounds="one process")


def judged(
    before: Pool,
    after: Pool,
    limit: float,
    residual_drifts: Mapping[str, float] = MappingProxyType({}),
) -> list[Ratio]:
    """Each variant's ratio against the limit (1.05), corrected for multiple tests.

    `residual_drifts` adds a standard deviation to a variant's shift (`stats.shift`).
    """
    names = list(before.means)
    return judged_shifts(
        {name: shift(before, after, name, residual_drifts.get(name, 0.0)) for name in names}, limit
    )


def judged_raw(before: Pool, after: Pool, limit: float) -> list[Ratio]:
    """As `judged` for raw times, without p: times measured hours apart are not comparable."""
    return [replace(ratio, p=None) for ratio in judged(before, after, limit)]


def judged_shifts(shifts: Mapping[str, LogRatio], limit: float) -> list[Ratio]:
    """Each shift as a ratio against the limit (1.05), corrected for multiple tests (Holm)."""
    corrected = holm([shift.p for shift in shifts.values()])
    return [
        _judged(name, log_ratio, p, alpha, limit)
        for (name, log_ratio), (p, alpha) in zip(shifts.items(), corrected, strict=True)
    ]


def _judged(name: str, log_ratio: LogRatio, p: float, alpha: float, limit: float) -> Ratio:
    ratio = Ratio.from_figure(log_ratio.ratio(alpha), name)
    if ratio.low is None:
        return replace(ratio, note=f"{NO_INTERVAL}: --processes 2")
    return replace(ratio, p=p, verdict=decide(ratio.ratio, ratio.low, ratio.high, p, limit))


def decide(ratio: float, low: float | None, high: float | None, p: float, limit: float) -> Speed:
    """Slower or faster: significantly and by more than the limit; same: the interval is within."""
    if low is None or high is None:
        return "inconclusive"
    if p < ALPHA and ratio > limit:
        return "slower"
    if p < ALPHA and ratio < 1 / limit:
        return "faster"
    return "same" if 1 / limit <= low and high <= limit else "inconclusive"


def ratio_verdict(
    check: str,
    ratio: Ratio,
    limit: float,
    *,
    slower: str = SLOWER,
    again: str = BOTH,
    advice: str = "",
) -> Verdict:
    """The verdict of B's time ÷ A's against the limit.

    `slower` is the hint for a slower B. The hint for an inconclusive ratio is `advice`, or else
    `again` with more processes; `again` is empty if nothing can be rerun.
    """
    expected = f"at most {limit:.4g}× the time"
    actual = Figure(ratio.ratio, ratio.low, ratio.high, unit="×").text(".3f")
    if ratio.verdict == "slower":
        return failed(check, ratio.subject, expected, actual, slower)
    if ratio.verdict != "inconclusive":
        return passed(check, ratio.subject, expected, actual)
    if ratio.low is None or ratio.high is None:
        why, hint = NO_INTERVAL, f"{again} with --processes 2 or more"
    else:
        why = f"the interval {ratio.low:.3f} to {ratio.high:.3f} contains the limit"
        hint = advice or f"{again} with --processes {max(5, 2 * ratio.processes)}"
    hint = f"{why}: {hint if again else FIXED}"
    return inconclusive(check, ratio.subject, expected, actual, hint)
