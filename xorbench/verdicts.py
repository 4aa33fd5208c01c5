"""Verdicts: made in one way, counted, and what exit code they come to."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from msgspec import Struct

from xorbench.errors import CHECK_FAILED, DEVICE_MISSING, INCONCLUSIVE, INTERRUPTED, PASSED

Outcome = Literal["pass", "fail", "inconclusive", "skipped"]


class Verdict(Struct, frozen=True, kw_only=True):
    """What one check says of one subject: a variant, a process, a device, a seed."""

    check: str
    subject: str
    outcome: Outcome
    expected: str
    actual: str
    hint: str = ""


def passed(check: str, subject: str, expected: str, actual: str) -> Verdict:
    """It holds."""
    return _verdict("pass", check, subject, expected, actual)


def skipped(check: str, subject: str, expected: str, actual: str) -> Verdict:
    """It could not be judged; `actual` says why."""
    return _verdict("skipped", check, subject, expected, actual)


def failed(check: str, subject: str, expected: str, actual: str, hint: str = "") -> Verdict:
    """It does not hold; the hint says what to do, if the check's own does not."""
    return _verdict("fail", check, subject, expected, actual, hint)


def inconclusive(check: str, subject: str, expected: str, actual: str, hint: str) -> Verdict:
    """It may hold or not; the hint says what would settle it."""
    return _verdict("inconclusive", check, subject, expected, actual, hint)


def judged(
    check: str, subject: str, expected: str, wrong: str, right: str, hint: str = ""
) -> Verdict:
    """Failed with `wrong` where that is not empty, else passed with `right`."""
    if wrong:
        return failed(check, subject, expected, wrong, hint)
    return passed(check, subject, expected, right)


def _verdict(
    outcome: Outcome, check: str, subject: str, expected: str, actual: str, hint: str = ""
) -> Verdict:
    texts = {"expected": expected, "actual": actual, "hint": hint}
    return Verdict(check=check, subject=subject, outcome=outcome, **texts)


def some(items: Sequence[str], most: int = 4, separator: str = ", ") -> str:
    """The first few, and how many more."""
    shown = separator.join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"


def counted(number: int, noun: str) -> str:
    """A number of things, in the singular or the plural."""
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def capitalized(sentence: str) -> str:
    """The sentence with a large first letter."""
    return f"{sentence[:1].upper()}{sentence[1:]}"


def exit_code(
    verdicts: Iterable[Verdict], *, interrupted: bool = False, device_missing: bool = False
) -> int:
    """The first that applies: interrupted, device missing, failed, inconclusive, passed."""
    outcomes: set[Outcome] = {verdict.outcome for verdict in verdicts}
    rules = (
        (interrupted, INTERRUPTED),
        (device_missing, DEVICE_MISSING),
        ("fail" in outcomes, CHECK_FAILED),
        ("inconclusive" in outcomes or "pass" not in outcomes, INCONCLUSIVE),
    )
    return next((code for applies, code in rules if applies), PASSED)


def summary(verdicts: Iterable[Verdict]) -> str:
    """The verdicts counted in one line."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    parts = [f"{counts[o]} {word}" for o, word in _WORDS.items() if counts[o]]
    return f"checks: {', '.join(parts) or 'nothing to judge'}"


_WORDS: Final[dict[Outcome, str]] = {
    "pass": "passed",
    "fail": "failed",
    "inconclusive": "inconclusive",
    "skipped": "skipped",
}


def worst(verdicts: Sequence[Verdict]) -> Outcome:
    """The outcome that counts: a failure before anything open, a pass before what was skipped."""
    return worst_outcome(verdict.outcome for verdict in verdicts)


def worst_outcome(outcomes: Iterable[Outcome]) -> Outcome:
    """The same of outcomes."""
    present = set(outcomes)
    order: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")
    return next((outcome for outcome in order if outcome in present), "skipped")


OUTCOME_CODES: Final[dict[Outcome, int]] = {
    "pass": PASSED,
    "fail": CHECK_FAILED,
    "inconclusive": INCONCLUSIVE,
    "skipped": INCONCLUSIVE,
}
"""What one outcome exits with; `exit_code` is for the verdicts of a run."""
