"""Convert the text of an option to values; an invalid text is an error of one line."""

import math
import re
import shlex
from collections.abc import Callable, Hashable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from xorbench.errors import BadOption

Value = TypeVar("Value", bound=Hashable)
BIGGEST_LIST = 65_536
LONGEST_RUN_S = 365 * 86_400.0  # of a user's command
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")  # package.module:function

_RANGE = re.compile(r"(\d+)-(\d+)")
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def integer(option: str, text: str, low: int, high: int) -> int:
    """Return a whole number within [low, high]; raises `BadOption`."""
    try:
        value = int(text.strip()) if text.isascii() and "_" not in text else None
    except ValueError:
        value = None
    if value is None:
        raise BadOption(f"{option}: must be a whole number, got {text!r}")
    return _within(option, value, low, high)


def real(option: str, text: str, low: float, high: float) -> float:
    """Return a finite number within [low, high]; raises `BadOption`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadOption(f"{option}: must be a finite number, got {text!r}")
    return _within(option, value, low, high)


def positive(option: str, text: str, high: float) -> float:
    """Return a finite number above zero and at most high; raises `BadOption`."""
    value = real(option, text, 0.0, high)
    if value == 0.0:
        raise BadOption(f"{option}: must be above zero, got {text}")
    return value


def share(option: str, text: str) -> float:
    """Return a share, as `5%` or `0.05`; raises `BadOption` for a value outside 0 to 1."""
    number, percent = text.removesuffix("%"), text.endswith("%")
    value = real(option, number, 0.0, 100.0) / (100 if percent else 1)
    if not 0 < value < 1:
        raise BadOption(f"{option}: must be between 0 and 1, got {text}", "such as 5% or 0.05")
    return value


RESERVED = {"latest", ".", ".."}
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def name(option: str, text: str) -> str:
    """Return a name for a result folder; raises `BadOption` for an invalid name."""
    if not _NAME.fullmatch(text) or text in RESERVED:
        hint = "1 to 64 letters, digits, '.', '_', '-'; not 'latest'"
        raise BadOption(f"{option}: invalid name {text!r}", hint)
    return text


def folder(option: str, text: str) -> Path:
    """Return a folder, which need not exist; raises `BadOption` for an invalid path."""
    if not text.strip():
        raise BadOption(f"{option}: empty", f"give a folder, for example {option} results")
    try:
        text.encode()
        Path(text).exists()
    except (OSError, ValueError) as error:  # too long, or not encodable
        raise BadOption(f"{option}: {ascii(text)[:60]}: {error.args[-1]}") from None
    return Path(text)


# The recorder and the training processes use these variables.
RESERVED_VARIABLES = re.compile(r"PYTHONPATH|PYTHONFAULTHANDLER|XORBENCH_\w*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def variable(option: str, text: str, hint: str) -> tuple[str, str]:
    """Return name and value of NAME=VALUE; raises `BadOption` for a variable that cannot be set."""
    variable_name, equals, value = text.partition("=")
    if not equals or not _VARIABLE.fullmatch(variable_name):
        raise BadOption(f"{option}: must be NAME=VALUE, got {text!r}", hint)
    if RESERVED_VARIABLES.fullmatch(variable_name):
        raise BadOption(f"{option}: {variable_name} is set by xorbench itself", hint)
    if not value.isprintable():
        raise BadOption(f"{option}: {variable_name}: a value is not printable: {value!r}")
    return variable_name, value


def command(option: str, text: str, hint: str) -> tuple[str, ...]:
    """Split a command into words as a shell does; raises `BadOption`."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise BadOption(f"{option}: {str(error).lower()}: {text!r}") from None
    if not words:
        raise BadOption(f"{option}: empty", hint)
    return words


_UNITS = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip


def size(option: str, text: str, least: int = 1) -> int:
    """Return a size in bytes, such as `500MB` or `2GiB`; raises `BadOption`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip(), re.ASCII)
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise BadOption(f"{option}: must be a size, got {text!r}", "such as 500MB or 2GiB")
    value = float(match[1]) * unit
    if not least <= value < 2**63:
        raise BadOption(f"{option}: must be from {least:,} to {2**63:,} bytes, got {text!r}")
    return int(value)


def truth(option: str, text: str, example: str = "false,true") -> bool:
    """Return a truth value; raises `BadOption`."""
    value = _TRUTHS.get(text.strip().lower())
    if value is None:
        raise BadOption(
            f"{option}: must be true or false, got {text!r}", f"for example {option} {example}"
        )
    return value


def word(option: str, text: str, choices: tuple[str, ...]) -> str:
    """Return one of the choices; raises `BadOption`."""
    if text not in choices:
        raise BadOption(f"{option}: unknown value {text!r}", f"one of {', '.join(choices)}")
    return text


def separated(option: str, text: str, parse: Callable[[str, str], Value]) -> tuple[Value, ...]:
    """Return the distinct items of a comma-separated list, each read by `parse(option, item)`."""
    items = text.split(",")
    if any(not item.strip() for item in items):
        raise BadOption(f"{option}: empty value in {text!r}", "separate values by single commas")
    return distinct(option, [parse(option, item.strip()) for item in items])


def integers(option: str, text: str, low: int, high: int) -> tuple[int, ...]:
    """Return the distinct numbers of a list with inclusive ranges, such as `0-9,12`."""
    pieces = separated(option, text, partial(_integer_or_range, low=low, high=high))
    if sum(map(len, pieces)) > BIGGEST_LIST:
        raise BadOption(f"{option}: more than {BIGGEST_LIST:,} values in {text!r}")
    return distinct(option, [value for piece in pieces for value in piece])


def ranges(option: str, text: str, low: int, high: int) -> tuple[range, ...]:
    """Return such a list as disjoint ascending ranges of any length."""
    pieces = separated(option, text, partial(_integer_or_range, low=low, high=high))
    ordered = sorted(pieces, key=lambda piece: piece.start)
    for piece, following in pairwise(ordered):
        if following.start < piece.stop:
            raise BadOption(f"{option}: {following.start} is given twice", "give each value once")
    return tuple(ordered)


def single_range(option: str, text: str, low: int, high: int) -> range:
    """Return a number or an inclusive range, such as `7-9`; raises `BadOption` for several."""
    pieces = ranges(option, text, low, high)
    if len(pieces) > 1:
        raise BadOption(f"{option}: must be one range of steps, got {text!r}", "such as 7-9")
    return pieces[0]


def distinct(option: str, values: list[Value]) -> tuple[Value, ...]:
    """Return the values as a tuple; raises `BadOption` for a repeated value."""
    seen: set[Value] = set()
    for value in values:
        if value in seen:
            raise BadOption(f"{option}: {_shown(value)} is given twice", "give each value once")
        seen.add(value)
    return tuple(values)


def _integer_or_range(option: str, text: str, *, low: int, high: int) -> range:
    match = _RANGE.fullmatch(text)
    if not match:
        value = integer(option, text, low, high)
        return range(value, value + 1)
    first, last = (integer(option, bound, low, high) for bound in match.groups())
    if last < first:
        raise BadOption(f"{option}: the range {text} runs backwards", f"write {last}-{first}")
    return range(first, last + 1)


def _within(option: str, value: Value, low: float, high: float) -> Value:
    if not low <= value <= high:  # type: ignore[operator]
        raise BadOption(f"{option}: must be from {low:,} to {high:,}, got {value}")
    return value


def _shown(value: object) -> str:
    if isinstance(value, range):
        return str(value.start) if len(value) == 1 else f"{value.start}-{value.stop - 1}"
    return (
        str(value).lower() if isinstance(value, bool) else "auto" if value is None else str(value)
    )
