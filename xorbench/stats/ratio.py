"""B's time ÷ A's with its interval, and the rule that judges it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from xorbench.stats.figure import Figure
from xorbench.stats.intervals import ALPHA, LogRatio, Pool, holm, shift
from xorbench.verdicts import Verdict, failed, inconclusive, passed

NO_INTERVAL: Final = "one process has no interval"
BOTH: Final = "run both again"
FIXED: Final = (
    "the processes of an imported file are fixed: compare two runs of xorbench, or exports of runs"
    " with more processes"
)
SLOWER: Final = "profile an epoch of the slower case; diff A B shows whether it computes the same"

Speed = Literal["same", "slower", "faster", "inconclusive"]


class Ratio(Struct, frozen=True, kw_only=True):
    """B's time ÷ A's, of one case, device or step; lower is faster.

    Attributes:
        subject: the case or device; empty where there is one alone.
        ratio: the estimate.
        low: the lower end of its 95% interval between processes; None where one process allows
            none. Of several ratios the interval is as wide as Holm's correction asks.
        high: the upper end.
        p: the chance of so large a ratio where nothing differs, adjusted for several ratios.
        processes: the number of processes that it comes from.
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
        """An estimate as a ratio that is not judged."""
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
        return figure.text(".3f", alone="of one process")


def judged(
    before: Pool,
    after: Pool,
    limit: float,
    residual_drifts: Mapping[str, float] = MappingProxyType({}),
) -> list[Ratio]:
    """Each variant's ratio against the limit (1.05), corrected for there being several.

    `residual_drifts` adds a standard deviation to a variant's shift (`stats.shift`).
    """
    names = list(before.means)
    return judged_shifts(
        {name: shift(before, after, name, residual_drifts.get(name, 0.0)) for name in names}, limit
    )


def judged_raw(before: Pool, after: Pool, limit: float) -> list[Ratio]:
    """As `judged`, of raw times: hours lie between them, so that no p is valid."""
    return [replace(ratio, p=None) for ratio in judged(before, after, limit)]


def judged_shifts(shifts: Mapping[str, LogRatio], limit: float) -> list[Ratio]:
    """Each shift as a ratio against the limit (1.05), corrected for there being several (Holm)."""
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
    """Slower or faster: significantly, and by more than the limit; same: within it for sure."""
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
    """B's time ÷ A's against the limit; the hint of an open one is how to settle it.

    `slower` is the hint of a slower one. An open one is settled as `advice` states, or else by
    `again` with more processes; an empty `again` where nothing can be run again.
    """
    expected = f"at most {limit:.4g}× the time"
    actual = Figure(ratio.ratio, ratio.low, ratio.high, unit="×").text(".3f")
    if ratio.verdict == "slower":
        return failed(check, ratio.subject, expected, actual, slower)
    if ratio.verdict != "inconclusive":
        return passed(check, ratio.subject, expected, actual)
    if ratio.low is None or ratio.high is None:
        why, way = NO_INTERVAL, f"{again} with --processes 2 or more"
    else:
        why = f"the interval {ratio.low:.3f} to {ratio.high:.3f} contains the limit"
        way = advice or f"{again} with --processes {max(5, 2 * ratio.processes)}"
    return inconclusive(check, ratio.subject, expected, actual, f"{why}: {way if again else FIXED}")
