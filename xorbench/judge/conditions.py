"""Whether the machine was quiet while it was timed. Trouble is flagged; nothing is left out."""

from collections import Counter
from collections.abc import Sequence
from statistics import mean
from typing import Final

from xorbench.observe.records import Conditions

# Above these, on average or in one second, the machine was not this run's alone.
OTHERS_PERCENT: Final = (5.0, 25.0)
STEAL_PERCENT: Final = (1.0, 10.0)


def trouble(looks: Sequence[Conditions]) -> list[str]:
    """What disturbed the timings, a phrase each; empty for a quiet machine."""
    others = [look.others_percent for look in looks if look.others_percent is not None]
    steal = [look.steal_percent for look in looks]
    found = [
        _too_much("other programs took", others, OTHERS_PERCENT),
        _too_much("the hypervisor gave away", steal, STEAL_PERCENT),
    ]
    return [text for text in found if text] + _throttled(looks)


def _too_much(what: str, percents: Sequence[float], limits: tuple[float, float]) -> str:
    if not percents or (mean(percents) <= limits[0] and max(percents) <= limits[1]):
        return ""
    shown = f"{mean(percents):.0f} % of the processors' time, up to {max(percents):.0f} %"
    return f"contended: {what} {shown} in a second"


def _throttled(looks: Sequence[Conditions]) -> list[str]:
    counts = Counter(
        (number, reason)
        for look in looks
        for number, accelerator in enumerate(look.accelerators)
        for reason in accelerator.throttled
    )
    return [
        f"throttled: accelerator {number}: {reason} in {times} of {len(looks)} looks"
        for (number, reason), times in sorted(counts.items())
    ]


def summary(looks: Sequence[Conditions]) -> str:
    """One line for the head of a report."""
    if not looks:
        return "not recorded"
    return "; ".join(trouble(looks)) or f"quiet, in {len(looks)} looks about a second apart"
