"""What a picture of a run's report is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pandas as pd

from xorbench.judge.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture of a run's report.

    Attributes:
        data: the function from the evidence to the figures; they become the CSV file beside it.
        draw: from the figures to SVG.
        describe: from the figures to words, for who cannot see it.
        under: the table that it is shown with.
    """

    name: str
    title: str
    caption: str
    data: Callable[[Evidence], pd.DataFrame]
    draw: Callable[[pd.DataFrame], str]
    describe: Callable[[pd.DataFrame], str]
    under: str


NOTHING: Final = pd.DataFrame()
