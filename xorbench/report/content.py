"""What a report holds, whatever it reports on: a heading, sections, pictures, verdicts."""

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
    csv: pd.DataFrame | None = None  # every digit and row; None where there is no file
    terminal: bool = False
    optional: bool = False  # left out where it is empty
    lines: Sequence[str] | None = None  # what a terminal shows in place of the table

    @property
    def data(self) -> pd.DataFrame:
        """Its table for programs, with every digit."""
        return self.frame if self.csv is None else self.csv

    @property
    def shown(self) -> bool:
        """Whether a text shows it."""
        return not (self.optional and self.frame.empty)


@dataclass(frozen=True, slots=True)
class Picture:
    """A plot by name, which is drawn when asked for; the first picture of a report leads it.

    Attributes:
        data: the function to the figures, which become the CSV file beside it; empty ones are not
            drawn. In `PLOTS` it takes the evidence, in a report nothing.
        draw: from the figures to SVG.
        describe: from the figures to words.
        under: the section that it is shown in.
    """

    name: str
    title: str
    caption: str
    data: Callable[..., pd.DataFrame]
    draw: Callable[[pd.DataFrame], str]
    describe: Callable[[pd.DataFrame], str] = lambda _frame: ""
    under: str = ""


NOTHING: Final = pd.DataFrame()
"""The figures of a picture that has none."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture as it was drawn, in words for who cannot see it, and the figures in it."""

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
    """Everything that a report shows; the texts and the page are made from it alone.

    `answers` says in one sentence each what was asked; `environment` is what the machine was, for
    a bug report; `again` are the commands that do it all once more. `not_tested` counts the planned
    cases that this machine cannot train.
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
