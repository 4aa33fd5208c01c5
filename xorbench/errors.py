"""What can go wrong in a way the user can mend: one line, a hint, an exit code."""

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
    """One clear line about what is wrong, a hint what to do, and the exit code."""

    exit_code: int = BAD_INPUT

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadOption(XorbenchError):
    """An option's value is not one that can be used; the message begins with the option."""


class BadFile(XorbenchError):
    """A file cannot be read, written or believed; the message begins with file and line."""


_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def unsupported(platform: str) -> str:
    """Why xorbench does not run on a platform (`sys.platform`); empty if it does."""
    return "Windows is not supported: use Linux, macOS or WSL" if platform == "win32" else ""


def why(error: Exception) -> str:
    """What the operating system says of a failure, in lower case; else what the error says."""
    return str(getattr(error, "strerror", None) or error).lower()


def printable(text: str) -> str:
    """A text for a terminal: what would move the cursor, colour, or turn the line is shown as ?."""
    return _CONTROL.sub("?", text)
