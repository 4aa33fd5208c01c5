"""What the canary means: one verdict for each device and question."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from xorbench.judge.checks import checked
from xorbench.judge.verdicts import failed, passed, skipped
from xorbench.observe.records import Golden, Verdict


class Burned(NamedTuple):
    """What a burn-in of one device came to: rounds of S models each, every mismatch in words."""

    rounds: int
    models: int
    mismatches: list[str]


def right(device: str, golden: Golden) -> list[Verdict]:
    """Edge cases, digest, and score of one device; the score is judged by itself."""
    bits = [fact for fact in golden.universal if fact.what != "score"]
    score = next((fact for fact in golden.universal if fact.what == "score"), bits[0])
    facts = ("accuracy", device, score.expected, score.actual)
    is_right = score.expected == score.actual
    verdict = passed(*facts) if is_right else failed(*facts, "look at the digest's verdict first")
    return [
        checked("arithmetic", device, golden.arithmetic),
        checked("universal", device, bits),
        verdict,
    ]


def fast(
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


def sound(device: str, burned: Burned) -> Verdict:
    """Every model of every round of a burn-in ended at its golden digest."""
    done = f"{burned.rounds} rounds of {burned.models} models"
    expected, wrong = "every model at its golden digest, each round", burned.mismatches
    if not wrong:
        return passed("burn-in", device, expected, f"{done}, all equal")
    shown = "; ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    hint = "bits flip under load: take the device out of service"
    return failed("burn-in", device, expected, f"{len(wrong)} wrong in {done}: {shown}", hint)


def broken(device: str, reason: str) -> Verdict:
    """The checks of a device did not come to their end."""
    hint = "the device, its driver or this PyTorch does not hold even this"
    return failed("completion", device, "the canary comes to its end", reason, hint)


def absent(device: str, reason: str) -> Verdict:
    """A device that is not here."""
    return skipped("device", device, "is here", reason)
