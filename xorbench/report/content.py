"""The content of any report: a heading, sections, pictures, verdicts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from xorbench.answers import Answer
from xorbench.verdicts import Verdict
from xorbench.xor.matrix.not_tested import NotTested


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A table under its title; `name` is its key in JSON and, with `csv`, its file."""

    name: str
    title: str
    frame: pd.DataFrame
    about: str = ""
    csv: pd.DataFrame | None = None  # every digit and row; None without a file
    terminal: bool = False
    optional: bool = False  # omitted if empty
    lines: Sequence[str] | None = None  # shown by a terminal instead of the table

    @property
    def data(self) -> pd.DataFrame:
        """The table with every digit."""
        return self.frame if self.csv is None else self.csv

    @property
    def shown(self) -> bool:
        """Whether texts show the section."""
        return not (self.optional and self.frame.empty)


@dataclass(frozen=True, slots=True)
class Picture:
    """A plot by name, drawn on demand; the first picture of a report is at its top.

    Attributes:
        data: function to the figures, which are also its CSV file; empty figures are not drawn. It
            takes the evidence in `PLOTS`, and nothing in a report.
        draw: function from the figures to SVG.
        describe: function from the figures to a description.
        under: the section that shows it.
    """

    name: str
    title: str
    caption: str
    data: Callable[..., pd.DataFrame]
    draw: Callable[[pd.DataFrame], str]
    describe: Callable[[pd.DataFrame], str] = lambda _frame: ""
    under: str = ""


NOTHING: Final = pd.DataFrame()
"""The figures of an empty picture."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A drawn picture, its text description, and its figures."""

    svg: str
    description: str
    frame: pd.DataFrame


def draw(picture: Picture) -> Drawn:
    """Draw the picture from its data."""
    frame = picture.data()
    if frame.empty:
        return Drawn("", "", frame)
    return Drawn(picture.draw(frame), picture.describe(frame), frame)


def drawn_by_name(content: "Content") -> dict[str, Drawn]:
    """Every picture of a report, drawn."""
    return {picture.name: draw(picture) for picture in content.pictures}


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Everything that a report shows; texts and pages need nothing else.

    `answers` has one sentence per question, `environment` describes the machine for a bug report,
    and `again` has the commands that reproduce the report. `not_tested` counts the planned cases
    that this machine cannot train.
    """

    id: str
    schema_version: int
    anonymous: bool
    heading: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    pictures: Sequence[Picture]
    verdicts: Sequence[Verdict]
    answers: Sequence[Answer] = ()
    environment: Sequence[tuple[str, str]] = ()
    again: Sequence[str] = ()
    not_tested: Sequence[NotTested] = ()
