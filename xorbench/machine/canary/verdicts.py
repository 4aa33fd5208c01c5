"""The judgement of a canary: one verdict for each device and question."""

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
        measure: what `rates` count a second: "FLOP", "B", or nothing.
        turns: how often it had its turn.
        results: how many results were verified; of memory, how many words.
        rates: work a second, one value a turn, verification included.
        wrongs: how many elements were wrong; `wrong` names the first of them.
    """

    unit: str
    measure: str = ""
    turns: int = 0
    results: int = 0
    rates: list[float] = field(default_factory=list)
    wrongs: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, turn: dict[str, Any]) -> list[str]:
        """Add one turn; returns its mismatches, in words."""
        self.turns += 1
        self.measure, self.results = turn["measure"], self.results + turn["results"]
        if turn["work"]:
            self.rates.append(turn["work"] / turn["seconds"])
        self.wrongs += turn["wrongs"]
        texts = [_in_words(self.unit, turn["round"], wrong) for wrong in turn["wrong"]]
        self.wrong += texts[: max(0, NAMED - len(self.wrong))]
        if turn["wrongs"] > len(texts):
            texts.append(f"{self.unit}, round {turn['round']}: {turn['wrongs']:,} wrong in all")
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


def _in_words(unit: str, number: int, wrong: dict[str, Any]) -> str:
    """Time, unit, round, element and bits of a mismatch."""
    text = f"{wrong['time']} {unit}, round {number}, {wrong['what']}"
    if wrong["element"]:
        text += f", element {wrong['element']}"
    if wrong["expected"]:
        text += f": expected {wrong['expected'][:64]}, got {wrong['actual'][:160]}"
    if wrong["flipped"]:
        text += f", bits flipped: {', '.join(map(str, wrong['flipped']))}"
    if wrong["again"] is not None:
        text += ", again at the same place" if wrong["again"] else ", right when done again"
    return text


def golden_verdicts(device: str, golden: Golden) -> list[Verdict]:
    """Edge cases, digest, and score of one device; the score is judged by itself."""
    bits = [fact for fact in golden.universal if fact.what != "score"]
    score = next((fact for fact in golden.universal if fact.what == "score"), bits[0])
    facts = ("accuracy", device, score.expected, score.actual)
    is_right = score.expected == score.actual
    return [
        checked("arithmetic", device, golden.arithmetic, ARITHMETIC_HINT),
        checked("universal", device, bits, UNIVERSAL_HINT),
        passed(*facts) if is_right else failed(*facts, "look at the digest's verdict first"),
    ]


def speed_verdict(
    device: str,
    times_s: Sequence[float],
    saved_s: float | None,
    threshold: float,
    unavailable_reason: str,
) -> Verdict:
    """The median calibration time against this machine's saved one.

    `unavailable_reason` says why there is no saved one.
    """
    q1, median, q3 = (1e3 * float(q) for q in np.quantile(times_s, [0.25, 0.5, 0.75]))
    actual = f"{median:.3g} ms an epoch (quartiles {q1:.3g} to {q3:.3g}, n = {len(times_s)})"
    if saved_s is None:
        verdict = skipped("speed", device, unavailable_reason, f"{actual}; {unavailable_reason}")
        return replace(verdict, hint="canary --save keeps this machine's value")
    ratio = median / 1e3 / saved_s
    expected = f"at most {threshold:g}× the saved {1e3 * saved_s:.3g} ms"
    actual = f"{actual}, {ratio:.3g}×"
    if ratio <= threshold:
        return passed("speed", device, expected, actual)
    hint = "something else keeps the machine busy, or it has become slower: look at clocks and load"
    return failed("speed", device, expected, actual, hint)


def burn_in_verdict(device: str, burned: BurnedUnit) -> Verdict:
    """Every result of a unit's burn-in was right."""
    subject = f"{device}: {burned.unit}"
    done = f"{burned.results:,} {'words' if burned.unit == 'memory' else 'results'}"
    expected = "every element of every result right"
    if not burned.wrongs and not burned.results:
        return skipped("burn-in", subject, expected, "nothing of it is available here")
    if not burned.wrongs:
        return passed("burn-in", subject, expected, f"{done}, all right{_speed(burned)}")
    first = "; ".join(burned.wrong[:3])
    more = f" and {burned.wrongs - 3} more" if burned.wrongs > 3 else ""
    hint = "take the device out of service; if it comes again at the same place, a unit is broken"
    return failed(
        "burn-in", subject, expected, f"{burned.wrongs} wrong in {done}: {first}{more}", hint
    )


def _speed(burned: BurnedUnit) -> str:
    """Median of the turns with its interval, verification included; empty where untimed."""
    if not burned.rates:
        return ""
    low, middle, high = rate(burned)
    unit, scale = ("TFLOP/s", 1e12) if burned.measure == "FLOP" else ("GB/s", 1e9)
    text = f", {middle / scale:.3g} {unit}"
    if low is not None and high is not None:
        text += f" [{low / scale:.3g}, {high / scale:.3g}]"
    return f"{text}, n = {len(burned.rates)}"


def rate(burned: BurnedUnit) -> tuple[float | None, float, float | None]:
    """The median of the turns, between the order statistics that hold it with 95% at least.

    None where there are fewer than six turns: no two of them hold it so surely.
    """
    from scipy.special import bdtrik  # slow to import, and no matter of a canary without a burn-in

    from xorbench.stats.intervals import ALPHA

    values = sorted(burned.rates)
    middle = float(np.median(values))
    # the smallest k with P(at most k of n values lie below the median) of 2.5%: k are left out
    least = math.ceil(float(bdtrik(ALPHA / 2, len(values), 0.5)))
    if len(values) < 6:
        return None, middle, None
    return values[least - 1], middle, values[len(values) - least]


def reduced_verdict(device: str, note: str) -> Verdict:
    """A part of the burn-in that a device skips, or makes smaller."""
    return skipped("burn-in", device, "everything at full size", note)


def lost_verdict(device: str, reason: str) -> Verdict:
    """The checks of a device did not come to their end."""
    hint = "the device, its driver or this PyTorch does not hold even this"
    return failed("completion", device, "the canary comes to its end", reason, hint)


def absent_verdict(device: str, reason: str) -> Verdict:
    """A device that is not here."""
    return skipped("device", device, "is here", reason)
