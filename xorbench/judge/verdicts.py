"""Verdicts, made in one way."""

from collections.abc import Sequence

from xorbench.observe.records import Verdict


def passed(check: str, subject: str, expected: str, actual: str) -> Verdict:
    """It holds."""
    return Verdict(check=check, subject=subject, outcome="pass", expected=expected, actual=actual)


def skipped(check: str, subject: str, expected: str, actual: str) -> Verdict:
    """It could not be judged; `actual` says why."""
    return Verdict(
        check=check, subject=subject, outcome="skipped", expected=expected, actual=actual
    )


def failed(check: str, subject: str, expected: str, actual: str, hint: str) -> Verdict:
    """It does not hold; the hint says what to do."""
    return Verdict(
        check=check, subject=subject, outcome="fail", expected=expected, actual=actual, hint=hint
    )


def inconclusive(check: str, subject: str, expected: str, actual: str, hint: str) -> Verdict:
    """It may hold or not; the hint says what would tell."""
    return Verdict(
        check=check,
        subject=subject,
        outcome="inconclusive",
        expected=expected,
        actual=actual,
        hint=hint,
    )


def some(items: Sequence[str], most: int = 4, separator: str = ", ") -> str:
    """The first few, and how many more."""
    shown = separator.join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
