"""What can go wrong in a way the user can mend: one line, a hint, an exit code."""

from typing import Final

PASSED: Final = 0
CHECK_FAILED: Final = 1
BAD_INPUT: Final = 2
INCONCLUSIVE: Final = 3
DEVICE_MISSING: Final = 4
INTERRUPTED: Final = 130


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
