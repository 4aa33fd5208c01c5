"""Detection of disturbances of the machine during timing; they are reported, not filtered."""

from collections import Counter
from collections.abc import Sequence
from statistics import mean
from typing import Final

from xorbench.records.schema.system import SystemSample

# Limits for the average and for one sample; above them, the machine was shared.
OTHERS_PERCENT: Final = (5.0, 25.0)
STEAL_PERCENT: Final = (1.0, 10.0)


def trouble(samples: Sequence[SystemSample]) -> list[str]:
    """The disturbances of the timings, one phrase each; empty for a quiet machine."""
    others = [sample.others_percent for sample in samples if sample.others_percent is not None]
    steal = [sample.steal_percent for sample in samples]
    notes = [
        _too_much("other programs took", others, OTHERS_PERCENT),
        _too_much("the hypervisor took", steal, STEAL_PERCENT),
    ]
    return [text for text in notes if text] + _throttled(samples)


def _too_much(cause: str, percents: Sequence[float], limits: tuple[float, float]) -> str:
    if not percents or (mean(percents) <= limits[0] and max(percents) <= limits[1]):
        return ""
    shown = f"{mean(percents):.0f}% of the processors' time, up to {max(percents):.0f}%"
    return f"contended: {cause} {shown} in a second"


def _throttled(samples: Sequence[SystemSample]) -> list[str]:
    counts = Counter(
        (number, reason)
        for sample in samples
        for number, accelerator in enumerate(sample.accelerators)
        for reason in accelerator.throttled
    )
    return [
        f"throttled: accelerator {number}: {reason} in {times} of {len(samples)} samples"
        for (number, reason), times in sorted(counts.items())
    ]


def summary(samples: Sequence[SystemSample]) -> str:
    """One line for the heading of a report."""
    if not samples:
        return "not recorded"
    many = "1 sample" if len(samples) == 1 else f"{len(samples)} samples about a second apart"
    return "; ".join(trouble(samples)) or f"quiet, in {many}"
