"""The picture of where the time of an epoch goes."""

from typing import Final

import pandas as pd

from xorbench.report.content import NOTHING, Picture
from xorbench.report.drawing import COLOURS, drawn, legend, middles, name_rows, short_names, tally
from xorbench.stats.figure import number
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.report.tables.phases import TITLES, phases

MOST_BARS: Final = 40
REST_COLOUR: Final = "#7f7f7f"


def shares(evidence: Evidence) -> pd.DataFrame:
    """The share of each phase in per cent, one row per case with shares."""
    frame = phases(evidence)
    columns = [f"{title} (%)" for title in TITLES.values()]
    if frame.empty:
        return NOTHING
    return frame.dropna(subset=columns, how="all")[["case", *columns]].fillna(0.0)


def draw_shares(frame: pd.DataFrame) -> str:
    """One bar per case, divided by phase."""
    frame = frame.head(MOST_BARS)
    with drawn(0.7) as (axes, out):
        rows = middles(name_rows(axes, short_names(list(frame["case"]))))
        left = pd.Series(0.0, index=frame.index)
        for title, colour in zip(TITLES.values(), (*COLOURS[:5], REST_COLOUR), strict=True):
            widths = frame[f"{title} (%)"]
            axes.barh(rows, widths, left=left, color=colour, height=1.0, label=title)
            left = left + widths
        axes.set_axisbelow(True)
        axes.set_xlim(0, max(100.0, left.max()))
        axes.set_xlabel("share of an epoch's time (%)")
        axes.grid(visible=False, axis="y")
        legend(axes)
    return out.getvalue()


def describe_shares(frame: pd.DataFrame) -> str:
    """The range of the largest phase, and of waiting for data."""
    columns = list(frame.columns[1:])
    largest = str(frame[columns].median().idxmax())
    low, high = frame[largest].min(), frame[largest].max()
    bars = tally(len(frame), MOST_BARS)
    return (
        f"{bars} bar{'s' if len(frame) > 1 else ''}; the largest phase is"
        f" {largest.removesuffix(' (%)')}, from {number(low)}% to {number(high)}%."
    )


PLOT: Final = Picture(
    "phases",
    "Where an epoch's time goes",
    "Share of each phase in the time of an epoch, from the pass with marks between the phases",
    shares,
    draw_shares,
    describe_shares,
    "phases",
)
