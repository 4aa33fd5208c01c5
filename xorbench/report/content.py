"""What a report holds, whatever it reports on: a heading, sections, pictures, verdicts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from xorbench.observe.records import Verdict


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

    @property
    def shown(self) -> bool:
        """Whether a text shows it."""
        return not (self.optional and self.frame.empty)


@dataclass(frozen=True, slots=True)
class Picture:
    """A plot by name; drawn when asked for, to SVG, or to nothing where there is nothing."""

    name: str
    caption: str
    draw: Callable[[], str]


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Everything that a report shows; the texts and the page are made from it alone."""

    id: str
    schema_version: int
    anonymous: bool
    heading: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    pictures: Sequence[Picture]
    verdicts: Sequence[Verdict]
