"""The ratio of pairs of processes that are added until it is settled."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from xorbench.stats.intervals import ALPHA
from xorbench.stats.sequential import (
    alpha_at,
    is_settled,
    judged_pairs,
    log_interval,
    looks,
    outliers,
)

COMPARISONS = 1_000
LIMIT = 1.05
Draw = Callable[[np.random.Generator, int], list[float]]


def normal(chance: np.random.Generator, count: int) -> list[float]:
    """Log ratios with the deviation that was measured with huge pages."""
    return list(chance.normal(0.0, 0.016, count))


def with_outliers(chance: np.random.Generator, count: int) -> list[float]:
    """Most within 0.5%, and some pairs off by 2 to 17%, as measured with default pages."""
    far = chance.random(count) < 0.3
    signs = chance.choice([-1.0, 1.0], count)
    return list(
        np.where(far, signs * chance.uniform(0.02, 0.17, count), chance.normal(0, 0.005, count))
    )


def heavy_tailed(chance: np.random.Generator, count: int) -> list[float]:
    """Student's distribution with two degrees of freedom."""
    return list(0.01 * chance.standard_t(2, count))


def compared(logs: list[float], shift: float, most: int) -> tuple[str, bool, int]:
    """The verdict, whether the interval covers the true ratio, and the number of pairs."""
    shifted = [log + math.log(shift) for log in logs]
    count = next(n for n in range(1, most + 1) if is_settled(shifted[:n], most, LIMIT))
    ratio = judged_pairs(shifted[:count], most, LIMIT)
    assert ratio.low is not None
    assert ratio.high is not None
    return ratio.verdict, ratio.low <= shift <= ratio.high, count


def comparisons(draw: Draw, shift: float, most: int) -> list[tuple[str, bool, int]]:
    """Simulated comparisons of a command with itself, stretched by a factor."""
    chance = np.random.default_rng(0)
    return [compared(draw(chance, most), shift, most) for _ in range(COMPARISONS)]


@pytest.mark.parametrize("most", [2, 5, 10])
def test_the_looks_spend_alpha_exactly_once(most: int) -> None:
    """The union bound over the looks is alpha; the last look is the last pair."""
    assert looks(most)[-1] == most
    assert sum(alpha_at(count, most) for count in looks(most)) == pytest.approx(ALPHA)


@pytest.mark.parametrize("most", [5, 10])
@pytest.mark.parametrize("draw", [normal, with_outliers, heavy_tailed])
@pytest.mark.parametrize("shift", [1.0, 1.03])
def test_the_interval_covers_the_true_ratio_although_the_end_was_decided_by_it(
    draw: Draw, shift: float, most: int
) -> None:
    """At least 95% of the comparisons, with three standard errors of the simulation."""
    covered = sum(covers for _, covers, _ in comparisons(draw, shift, most)) / COMPARISONS
    assert covered > 1 - ALPHA - 3 * math.sqrt(ALPHA / COMPARISONS)


def test_looking_again_with_the_whole_alpha_covers_less() -> None:
    """The correction is needed: with five looks at 95% each, more intervals miss the ratio."""
    chance = np.random.default_rng(0)
    missed = 0
    for _ in range(COMPARISONS):
        logs = list(chance.normal(0.0, 0.016, 14))
        each = [log_interval(logs[:count], ALPHA) for count in looks(14)]
        missed += any(abs(interval.mean) > interval.margin for interval in each)
    assert missed / COMPARISONS > 2 * ALPHA


def test_equal_commands_are_settled_and_slower_ones_detected() -> None:
    """With the measured deviation and the default of five pairs."""
    same = [verdict for verdict, *_ in comparisons(normal, 1.0, 5)]
    slower = [verdict for verdict, *_ in comparisons(normal, 1.1, 5)]
    assert same.count("same") > 0.85 * COMPARISONS
    assert same.count("slower") + same.count("faster") <= 0.001 * COMPARISONS
    assert slower.count("slower") > 0.99 * COMPARISONS


def test_more_pairs_are_made_only_where_they_are_needed() -> None:
    """A clear result ends at an early look."""
    counts = [count for *_, count in comparisons(normal, 1.3, 10)]
    assert np.mean(counts) < 5


def test_a_pair_with_a_slower_process_does_not_widen_the_interval() -> None:
    """The trimmed mean ignores it; the pair is listed."""
    logs = [0.001, -0.002, 0.003, -0.001, 0.1]
    assert judged_pairs(logs, 5, LIMIT).verdict == "same"
    assert outliers(logs) == [4]
    assert outliers(logs[:4]) == []


def test_one_pair_has_no_interval() -> None:
    """It is inconclusive."""
    ratio = judged_pairs([0.5], 5, LIMIT)
    assert (ratio.low, ratio.verdict) == (None, "inconclusive")
