"""Tables as text: for a terminal, for Markdown, for CSV."""

import math
import re
from collections.abc import Sequence
from typing import Any, Final

import pandas as pd
from tabulate import tabulate

from xorbench.errors import printable

TableRow = dict[str, Any]


def frame_of(rows: Sequence[TableRow], columns: list[str] | None = None) -> pd.DataFrame:
    """The rows as a frame. Numbers keep their type where some are missing.

    A column without any value holds missing numbers.
    """
    frame = pd.DataFrame(rows, columns=columns)
    for name in frame.columns:
        values = [row.get(name) for row in rows]
        if dtype := _optional_dtype({type(value) for value in values}):
            frame[name] = pd.Series(values, index=frame.index, dtype=dtype)
    return frame


def _optional_dtype(types: set[type]) -> str:
    """The dtype of a column of numbers, of which some are missing; empty for any other."""
    present = types - {type(None)}
    if present == types:
        return ""
    if present == {int}:
        return "Int64"
    return "float64" if all(issubclass(one, float) or one is int for one in present) else ""


def to_terminal(frame: pd.DataFrame) -> str:
    """A plain grid, figures merged with their intervals, columns without content left out."""
    table, notes = footnoted(readable(frame))
    return "\n".join([_tabulate(table, "simple"), *(f"  {note}" for note in notes)])


def to_markdown(frame: pd.DataFrame) -> str:
    """A Markdown table; a cell cannot break out of it."""
    table, notes = footnoted(readable(frame))
    table = table.map(escape).rename(columns=escape)
    return "\n\n".join([_tabulate(table, "pipe"), *map(escape, notes)])


def to_csv(frame: pd.DataFrame) -> str:
    """Comma-separated, every digit kept, intervals in columns of their own."""
    return frame.to_csv(index=False, lineterminator="\n")


# The same speed in other units, with the same relative interval as the samples/s beside it.
SAME_INTERVAL: Final = ("epochs/s", "steps/s")


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as text: `X`, `X low`, `X high` become `X [95% interval]`; digests are cut."""
    columns: dict[str, list[str]] = {}
    for name in frame.columns:
        if f"{name} low" in frame.columns and name not in SAME_INTERVAL:
            triples = zip(frame[name], frame[f"{name} low"], frame[f"{name} high"], strict=True)
            columns[f"{name} [95%]"] = [_interval(*triple) for triple in triples]
        elif not name.endswith((" low", " high")):
            columns[name] = [_cell(name, value) for value in frame[name]]
    kept = {name: cells for name, cells in columns.items() if any(cells) or name == "case"}
    return pd.DataFrame(kept, dtype=str)


def footnoted(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The frame with its notes as numbers, and the notes: said once, however many rows have it."""
    if "note" not in frame.columns:
        return frame, []
    notes = list(dict.fromkeys(note for note in frame["note"] if note))
    marks = {note: f"({number})" for number, note in enumerate(notes, 1)}
    marked = frame.assign(note=[marks.get(note, "") for note in frame["note"]])
    return marked, [f"{mark} {note}" for note, mark in marks.items()]


def _interval(value: Any, low: Any, high: Any) -> str:
    if pd.isna(value):
        return ""
    if pd.isna(low):
        return f"{number(value)} [of one]"
    return f"{number(value)} [{number(low)}, {number(high)}]"


def _cell(name: str, value: Any) -> str:
    if pd.isna(value):
        return ""
    if name.endswith("sha256"):
        return str(value)[:16]
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else number(value)
    return str(value)


def number(value: float) -> str:
    """Four significant digits, thousands set apart, no exponent for the sizes that occur."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 3 - math.floor(math.log10(abs(value)))
    return f"{value:.3g}" if digits > 8 else f"{round(value, digits):,.{max(0, digits)}f}"


def _tabulate(frame: pd.DataFrame, style: str) -> str:
    if frame.empty:
        return "(none)"
    rows: list[list[str]] = frame.to_numpy().tolist()
    align = ["left" if not numeric(frame[name]) else "right" for name in frame.columns]
    return tabulate(
        rows, headers=list(frame.columns), tablefmt=style, colalign=align, disable_numparse=True
    )


# With its interval, as 499/500, as 32 64 128; no time, version or name that begins with a digit.
NUMBER: Final = re.compile(r"\d[\d.,]*(e[-+]?\d+)?(/\d+)?( \d+)*( \[.*\])?")


def numeric(cells: pd.Series) -> bool:
    """Whether every cell that is not empty is a number, a share, or numbers."""
    return all(not cell or NUMBER.fullmatch(cell) for cell in cells) and any(cells)


def escape(cell: str) -> str:
    """Text that stays within its line and its table cell in Markdown, and brings no tag."""
    cell = cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return printable(" ".join(cell.replace("](", "]\\(").split()))
