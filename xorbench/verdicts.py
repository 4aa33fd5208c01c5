"""Verdicts: creation, counts, and their exit code."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from msgspec import Struct

from xorbench.errors import CHECK_FAILED, DEVICE_MISSING, INCONCLUSIVE, INTERRUPTED, PASSED

Outcome = Literal["pass", "fail", "inconclusive", "skipped"]


class Verdict(Struct, frozen=True, kw_only=True):
    """The result of one check for one subject: a variant, a process, a device, a seed."""

    check: str
    subject: str
    outcome: Outcome
    expected: str
    actual: str
    hint: str = ""


def passed(check: str, subject: str, expected: str, actual: str) -> Verdict:
    """The verdict of a check that passed."""
    return _verdict("pass", check, subject, expected, actual)


def skipped(check: str, subject: str, expected: str, actual: str) -> Verdict:
    """The verdict of a check that was not run; `actual` gives the reason."""
    return _verdict("skipped", check, subject, expected, actual)


def failed(check: str, subject: str, expected: str, actual: str, hint: str = "") -> Verdict:
    """The verdict of a check that failed; `hint` replaces the check's own hint."""
    return _verdict("fail", check, subject, expected, actual, hint)


def inconclusive(check: str, subject: str, expected: str, actual: str, hint: str) -> Verdict:
    """The verdict of an inconclusive check; the hint states the missing evidence."""
    return _verdict("inconclusive", check, subject, expected, actual, hint)


def judged(
    check: str, subject: str, expected: str, mismatch: str, actual: str, hint: str = ""
) -> Verdict:
    """Failed with `mismatch` if it is not empty, else passed with `actual`."""
    if mismatch:
        return failed(check, subject, expected, mismatch, hint)
    return passed(check, subject, expected, actual)


def _verdict(
    outcome: Outcome, check: str, subject: str, expected: str, actual: str, hint: str = ""
) -> Verdict:
    texts = {"expected": expected, "actual": actual, "hint": hint}
    return Verdict(check=check, subject=subject, outcome=outcome, **texts)


def some(items: Sequence[str], most: int = 4, separator: str = ", ") -> str:
    """The first items, and the number of further ones."""
    shown = separator.join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"


def counted(number: int, noun: str) -> str:
    """A number and its noun, in the singular or plural."""
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def capitalized(sentence: str) -> str:
    """The sentence with a capital first letter."""
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
    """The number of verdicts by outcome, in one line."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    parts = [f"{counts[o]} {word}" for o, word in _WORDS.items() if counts[o]]
    return f"checks: {', '.join(parts) or 'none judged'}"


_WORDS: Final[dict[Outcome, str]] = {
    "pass": "passed",
    "fail": "failed",
    "inconclusive": "inconclusive",
    "skipped": "skipped",
}


def worst(verdicts: Sequence[Verdict]) -> Outcome:
    """The decisive outcome of the verdicts."""
    return worst_outcome(verdict.outcome for verdict in verdicts)


def worst_outcome(outcomes: Iterable[Outcome]) -> Outcome:
    """The decisive outcome: a failure, else an inconclusive outcome, else a pass, else skipped."""
    present = set(outcomes)
    order: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")
    return next((outcome for outcome in order if outcome in present), "skipped")


OUTCOME_CODES: Final[dict[Outcome, int]] = {
    "pass": PASSED,
    "fail": CHECK_FAILED,
    "inconclusive": INCONCLUSIVE,
    "skipped": INCONCLUSIVE,
}
"""The exit code of a single outcome; `exit_code` is for the verdicts of a run."""
