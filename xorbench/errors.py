"""Errors that the user can fix: a one-line message, a hint, an exit code."""

import re
from typing import Final

PASSED: Final = 0
CHECK_FAILED: Final = 1
BAD_INPUT: Final = 2
INCONCLUSIVE: Final = 3
DEVICE_MISSING: Final = 4
INTERRUPTED: Final = 130
EXIT_WORDS: Final = {
    PASSED: "PASS",
    CHECK_FAILED: "FAIL",
    INCONCLUSIVE: "INCONCLUSIVE",
    DEVICE_MISSING: "DEVICE MISSING",
    INTERRUPTED: "INTERRUPTED",
}


class XorbenchError(Exception):
    """An error with a one-line message, a hint, and an exit code."""

    exit_code: int = BAD_INPUT

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadOption(XorbenchError):
    """The value of an option is invalid; the message begins with the option."""


class BadFile(XorbenchError):
    """A file cannot be read or written, or is invalid; the message begins with file and line."""


_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def why(error: Exception) -> str:
    """The operating system's message for an error, else the error's own, in lower case."""
    return str(getattr(error, "strerror", None) or error).lower()


def printable(text: str) -> str:
    """The text with control characters replaced by `?`, for a terminal."""
    return _CONTROL.sub("?", text)
