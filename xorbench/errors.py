"""Errors that the user can fix: a message of one line, a hint, an exit code."""

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
    """An error: a message of one line, a hint for the fix, and the exit code."""

    exit_code: int = BAD_INPUT

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadOption(XorbenchError):
    """An option has an invalid value; the message begins with the option."""


class BadFile(XorbenchError):
    """A file cannot be read or written, or is invalid; the message begins with file and line."""


_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def unsupported(platform: str) -> str:
    """Why xorbench does not run on a platform (`sys.platform`); empty if it does."""
    return "Windows is not supported: use Linux, macOS or WSL" if platform == "win32" else ""


def why(error: Exception) -> str:
    """The operating system's message of an error, or else its text, in lower case."""
    return str(getattr(error, "strerror", None) or error).lower()


def printable(text: str) -> str:
    """A text for a terminal; control characters, such as of cursor and colour, become ?."""
    return _CONTROL.sub("?", text)
