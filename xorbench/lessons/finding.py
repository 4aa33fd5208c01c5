"""What a lesson answers: whether its statement holds here, and the number it was measured by."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch

LessonAnswer = Literal["holds", "does not hold", "cannot be tried here"]
PAIRS: Final = 61


@dataclass(frozen=True, slots=True)
class LessonFinding:
    """The answer, and what was measured, in words with its units."""

    answer: LessonAnswer
    measured: str


def found(holds: bool, measured: str) -> LessonFinding:
    """The finding of a statement that could be tried."""
    return LessonFinding("holds" if holds else "does not hold", measured)


def untried(reason: str) -> LessonFinding:
    """The finding of a statement that this machine cannot try."""
    return LessonFinding("cannot be tried here", reason)


def accelerator() -> str | None:
    """The accelerator of this machine, such as `cuda`, or None."""
    if not torch.accelerator.is_available():
        return None
    device = torch.accelerator.current_accelerator()
    return device.type if device else None


@dataclass(frozen=True, slots=True)
class SpeedRatio:
    """How many times longer one thing takes than another: median, 95% interval, pairs."""

    median: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return (
            f"{self.median:.3f} times as long [{self.low:.3f}, {self.high:.3f}], {self.pairs} pairs"
        )


def time_ratio(
    slow: Callable[[], object],
    fast: Callable[[], object],
    *,
    pairs: int = PAIRS,
    clock: Callable[[], float] = time.perf_counter,
) -> SpeedRatio:
    """Time both in turn, as often as there are pairs; the interval of the median is by ranks.

    Between the ranks `n/2 ± 0.98 √n` lies the median with 95%, whatever the distribution.
    """
    ratios = []
    for number in range(pairs + 2):
        first, second = (slow, fast) if number % 2 else (fast, slow)
        start = clock()
        first()
        middle = clock()
        second()
        times = (middle - start, clock() - middle)
        ratios.append(times[0] / times[1] if number % 2 else times[1] / times[0])
    ratios = sorted(ratios[2:])  # the first two warm up
    reach = math.ceil(0.98 * math.sqrt(pairs))
    middle_rank = pairs // 2
    low, high = ratios[max(0, middle_rank - reach)], ratios[min(pairs - 1, middle_rank + reach)]
    return SpeedRatio(ratios[middle_rank], low, high, pairs)
