"""Tables and their text: as data frames, for a terminal, for Markdown, for CSV."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pandas as pd
from tabulate import tabulate

from xorbench.errors import printable
from xorbench.stats.figure import MISSING, Figure, number

TableRow = dict[str, Any]
ENDS: Final = ("", " low", " high")  # endings of the column names of a figure


def frame_of(rows: Sequence[TableRow], columns: list[str] | None = None) -> pd.DataFrame:
    """The rows as a frame. Numbers keep their type if some are missing.

    A `Figure` becomes three columns of numbers: `X`, `X low` and `X high`. A column without
    values holds missing numbers.
    """
    rows = [_flat(row) for row in rows]
    frame = pd.DataFrame(rows, columns=columns)
    for name in frame.columns:
        values = [row.get(name) for row in rows]
        if dtype := _optional_dtype({type(value) for value in values}):
            frame[name] = pd.Series(values, index=frame.index, dtype=dtype)
    return frame


def figure_columns(name: str) -> list[str]:
    """The names of the three columns that hold a figure and its interval."""
    return [f"{name}{end}" for end in ENDS]


def _flat(row: TableRow) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Figure):
            ends = (value.value, value.low, value.high)
            cells |= zip(figure_columns(name), ends, strict=True)
        else:
            cells[name] = value
    return cells


def _optional_dtype(types: set[type]) -> str:
    """The dtype of a column of numbers with missing values; empty for other columns."""
    present = types - {type(None)}
    if present == types:
        return ""
    if present == {int}:
        return "Int64"
    return "float64" if all(issubclass(kind, float) or kind is int for kind in present) else ""


def to_csv(frame: pd.DataFrame) -> str:
    """Comma-separated, every digit kept, intervals in columns of their own."""
    return frame.to_csv(index=False, lineterminator="\n")


# Displayed columns


@dataclass(frozen=True, slots=True)
class Column:
    """A displayed column: figures with their intervals, or texts."""

    name: str
    cells: Sequence[Figure | str]
    is_number: bool

    @property
    def texts(self) -> list[str]:
        """The cells as text."""
        return [cell_text(cell) for cell in self.cells]


def cell_text(cell: Figure | str) -> str:
    """A cell as text."""
    return cell.text(no_bounds=NO_INTERVAL) if isinstance(cell, Figure) else cell


NO_INTERVAL: Final = "n=1"  # instead of the interval, with one process
# Speeds in different units, with the relative interval of samples/s.
SAME_INTERVAL: Final = ("epochs/s", "steps/s")


def shown(frame: pd.DataFrame) -> tuple[list[Column], list[str]]:
    """The columns with any content, and the notes, each written once and numbered."""
    names = [name for name in frame.columns if not name.endswith(ENDS[1:])]
    columns = [_column(frame, name) for name in names]
    columns = [column for column in columns if any(column.texts) or column.name == "case"]
    notes = next((column.texts for column in columns if column.name == "note"), [])
    marks = {
        note: f"({number})" for number, note in enumerate(dict.fromkeys(filter(None, notes)), 1)
    }
    marked = Column("note", [marks.get(note, "") for note in notes], is_number=False)
    columns = [marked if column.name == "note" else column for column in columns]
    return columns, [f"{mark} {note}" for note, mark in marks.items()]


def _column(frame: pd.DataFrame, name: str) -> Column:
    values = list(frame[name])
    if f"{name} low" in frame.columns and name not in SAME_INTERVAL:
        ends = zip(values, frame[f"{name} low"], frame[f"{name} high"], strict=True)
        figures = [_figure(*each) for each in ends]
        return Column(f"{name} [95%]", figures, is_number=True)
    cells = [_text(name, value) for value in values]
    is_number = all(map(_is_number, values)) and any(cells)
    return Column(name, cells, is_number)


def _figure(value: Any, low: Any, high: Any) -> Figure:
    if pd.isna(value):
        return MISSING
    return Figure(value) if pd.isna(low) else Figure(value, low, high)


def _text(name: str, value: Any) -> str:
    if pd.isna(value):
        return ""
    if name.endswith("sha256"):
        return str(value)[:16]
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else number(value)
    return str(value)


# Such as 0.1.0, 499/500, 32 64 128; not a date, or a name that begins with a digit.
NUMBERS: Final = re.compile(r"\d[\d.,]*(e[-+]?\d+)?(/\d+)?( \d+)*")


def _is_number(value: Any) -> bool:
    """Whether a cell is aligned as a number: a number, a ratio, several numbers, or empty."""
    if isinstance(value, str):
        return not value or bool(NUMBERS.fullmatch(value))
    return not isinstance(value, bool)


# Texts


@dataclass(frozen=True, slots=True)
class Title:
    """A heading of a text; `level` is its number of marks in Markdown."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Prose:
    """A paragraph with text of files and commands, which is escaped in Markdown."""

    text: str


Part = str | Title | Prose | pd.DataFrame
"""A part of a text: a literal paragraph, a title, a paragraph to escape, or a table."""


def terminal_text(parts: Iterable[Part]) -> str:
    """The parts for a terminal; empty parts are omitted."""
    return "\n\n".join(filter(None, map(_terminal, parts)))


def _terminal(part: Part) -> str:
    if isinstance(part, pd.DataFrame):
        return to_terminal(part)
    return part if isinstance(part, str) else part.text


def markdown_text(parts: Iterable[Part]) -> str:
    """The parts as a Markdown document; empty parts are omitted."""
    return "\n\n".join(filter(None, map(_markdown, parts))) + "\n"


def _markdown(part: Part) -> str:
    if isinstance(part, pd.DataFrame):
        return to_markdown(part)
    if isinstance(part, Title):
        return f"{'#' * part.level} {part.text}"
    return part if isinstance(part, str) else escape(part.text)


def to_terminal(frame: pd.DataFrame) -> str:
    """A plain grid, figures merged with their intervals, without empty columns."""
    columns, notes = shown(frame)
    return "\n".join([_tabulate(columns, "simple"), *(f"  {note}" for note in notes)])


def to_markdown(frame: pd.DataFrame) -> str:
    """A Markdown table, with escaped cells."""
    columns, notes = shown(frame)
    return "\n\n".join([_tabulate(columns, "pipe", escape), *map(escape, notes)])


def _tabulate(columns: Sequence[Column], style: str, escaped: Callable[[str], str] = str) -> str:
    rows = list(zip(*(map(escaped, column.texts) for column in columns), strict=True))
    if not rows:
        return "(none)"
    return tabulate(
        rows,
        headers=[escaped(column.name) for column in columns],
        tablefmt=style,
        colalign=["right" if column.is_number else "left" for column in columns],
        disable_numparse=True,
    )


def escape(cell: str) -> str:
    """Text escaped for a line or a table cell in Markdown, without tags."""
    cell = cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return printable(" ".join(cell.replace("](", "]\\(").split()))


def to_json(value: object) -> str:
    """Any record as JSON."""
    return json.dumps(msgspec.to_builtins(value), indent=2)
