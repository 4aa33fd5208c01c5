"""The verdicts of a canary, one for each device and check."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from msgspec.structs import replace

from xorbench.machine.golden_verdicts import ARITHMETIC_HINT, UNIVERSAL_HINT, checked
from xorbench.records.schema.golden import Golden
from xorbench.verdicts import Verdict, failed, passed, skipped


@dataclass
class BurnedUnit:
    """The results of one unit of a device in a burn-in.

    Attributes:
        unit: such as `matmul float32 4096`.
        measure: unit of work in `rates`: "FLOP", "B" or empty.
        turns: number of turns.
        results: number of verified results; of memory, number of words.
        rates: work per second including verification, one value per turn.
        mismatches: number of wrong elements; `wrong` describes the first of them.
    """

    unit: str
    measure: str = ""
    turns: int = 0
    results: int = 0
    rates: list[float] = field(default_factory=list)
    mismatches: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, turn: dict[str, Any]) -> list[str]:
        """Add one turn and return descriptions of its mismatches."""
        self.turns += 1
        self.measure, self.results = turn["measure"], self.results + turn["results"]
        if turn["work"]:
            self.rates.append(turn["work"] / turn["seconds"])
        self.mismatches += turn["mismatches"]
        texts = [_mismatch_text(self.unit, turn["round"], wrong) for wrong in turn["wrong"]]
        self.wrong += texts[: max(0, NAMED - len(self.wrong))]
        if turn["mismatches"] > len(texts):
            texts.append(
                f"{self.unit}, round {turn['round']}: {turn['mismatches']:,} mismatches in total"
            )
        return texts


@dataclass(frozen=True, slots=True)
class CanaryOutcome:
    """The verdicts of a canary, its machine, its burn-in by device, and the exit code."""

    verdicts: list[Verdict]
    machine: dict[str, Any]
    wall_s: float
    exit_code: int
    burned: dict[str, list[BurnedUnit]]


NAMED: Final = 20


def _mismatch_text(unit: str, number: int, wrong: dict[str, Any]) -> str:
    """Time, unit, round, element and bits of a mismatch."""
    text = f"{wrong['time']} {unit}, round {number}, {wrong['what']}"
    if wrong["element"]:
        text += f", element {wrong['element']}"
    if wrong["expected"]:
        text += f": expected {wrong['expected'][:64]}, got {wrong['actual'][:160]}"
    if wrong["flipped"]:
        text += f", bits flipped: {', '.join(map(str, wrong['flipped']))}"
    if wrong["again"] is not None:
        text += ", reproduced at the same position" if wrong["again"] else ", correct on retry"
    return text


def golden_verdicts(device: str, golden: Golden) -> list[Verdict]:
    """The verdicts on edge cases, digest and score of one device."""
    bits = [value for value in golden.universal if value.what != "score"]
    score = next((value for value in golden.universal if value.what == "score"), bits[0])
    accuracy = ("accuracy", device, score.expected, score.actual)
    is_correct = score.expected == score.actual
    return [
        checked("arithmetic", device, golden.arithmetic, ARITHMETIC_HINT),
        checked("universal", device, bits, UNIVERSAL_HINT),
        passed(*accuracy) if is_correct else failed(*accuracy, "see the digest's verdict first"),
    ]


def speed_verdict(
    device: str,
    times_s: Sequence[float],
    saved_s: float | None,
    threshold: float,
    unavailable_reason: str,
) -> Verdict:
    """The verdict on the median calibration time, compared with this machine's saved time.

    `unavailable_reason` explains a missing saved time.
    """
    q1, median, q3 = (1e3 * float(q) for q in np.quantile(times_s, [0.25, 0.5, 0.75]))
    actual = f"{median:.3g} ms per epoch (quartiles {q1:.3g} to {q3:.3g}, n = {len(times_s)})"
    if saved_s is None:
        verdict = skipped("speed", device, unavailable_reason, f"{actual}; {unavailable_reason}")
        return replace(verdict, hint="store this machine's value with canary --save")
    ratio = median / 1e3 / saved_s
    expected = f"at most {threshold:g}× the saved {1e3 * saved_s:.3g} ms"
    actual = f"{actual}, {ratio:.3g}×"
    if ratio <= threshold:
        return passed("speed", device, expected, actual)
    hint = "the machine is under load or has become slower: check its load and clocks"
    return failed("speed", device, expected, actual, hint)


def burn_in_verdict(device: str, burned: BurnedUnit) -> Verdict:
    """The verdict on all results of a unit."""
    subject = f"{device}: {burned.unit}"
    done = f"{burned.results:,} {'words' if burned.unit == 'memory' else 'results'}"
    expected = "every element of every result correct"
    if not burned.mismatches and not burned.results:
        return skipped("burn-in", subject, expected, "not available on this device")
    if not burned.mismatches:
        return passed("burn-in", subject, expected, f"{done}, all correct{_speed(burned)}")
    first = "; ".join(burned.wrong[:3])
    more = f" and {burned.mismatches - 3} more" if burned.mismatches > 3 else ""
    hint = "take the device out of service; a mismatch at the same position again is a broken unit"
    return failed(
        "burn-in", subject, expected, f"{burned.mismatches} wrong in {done}: {first}{more}", hint
    )


def _speed(burned: BurnedUnit) -> str:
    """The median rate with its interval, including verification; empty if untimed."""
    if not burned.rates:
        return ""
    low, middle, high = rate(burned)
    unit, scale = ("TFLOP/s", 1e12) if burned.measure == "FLOP" else ("GB/s", 1e9)
    text = f", {middle / scale:.3g} {unit}"
    if low is not None and high is not None:
        text += f" [{low / scale:.3g}, {high / scale:.3g}]"
    return f"{text}, n = {len(burned.rates)}"


def rate(burned: BurnedUnit) -> tuple[float | None, float, float | None]:
    """The median rate between two order statistics, an interval of at least 95%.

    The bounds are None for fewer than six turns, which cannot reach 95%.
    """
    from scipy.special import bdtrik  # slow to import, and needed only after a burn-in

    from xorbench.stats.intervals import ALPHA

    values = sorted(burned.rates)
    middle = float(np.median(values))
    # The smallest k for which P(at most k of n values are below the median) reaches 2.5%.
    least = math.ceil(float(bdtrik(ALPHA / 2, len(values), 0.5)))
    if len(values) < 6:
        return None, middle, None
    return values[least - 1], middle, values[len(values) - least]


def reduced_verdict(device: str, note: str) -> Verdict:
    """A part of the burn-in that a device skips or reduces."""
    return skipped("burn-in", device, "everything at full size", note)


def lost_verdict(device: str, reason: str) -> Verdict:
    """A device whose checks did not finish."""
    hint = "the device, its driver or this PyTorch fails on a small workload"
    return failed("completion", device, "the canary finishes", reason, hint)


def absent_verdict(device: str, reason: str) -> Verdict:
    """An unavailable device."""
    return skipped("device", device, "available", reason)
