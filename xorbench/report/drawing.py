"""An empty picture to draw in. Colours are Okabe and Ito's, safe for colour-blind readers."""

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import accumulate, pairwise
from math import ceil
from typing import Any, Final, cast, overload

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from xorbench.report.svg import INK, PAPER

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
DASHES: Final = ("-", "--", ":")
MOST_LINES: Final = 12  # in one picture
WIDTH_IN: Final = 4.4  # at the width of a phone, its smallest text has 10 pixels
LINE_IN: Final = 0.15  # height of a line of text
ROW_LINES: Final = 1.4  # height of a row whose name has one line
NAME: Final = 28  # characters per line of a row's name
LONGEST: Final = 54  # characters of a name: two lines or three
BREAKS: Final = re.compile(r"( )|(?<=[-=,_:/+…])")  # where a line of a name may end
ENTRY: Final = 64  # characters per line of the legend, with its sample
HANDLE: Final = 8  # characters of the sample next to a legend's name
STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold dollars
    "svg.hashsalt": "xorbench",  # the same run gives the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "font.size": 9,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
NO_METADATA: Final = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@overload
def drawn(height: float) -> AbstractContextManager[tuple[Axes, io.StringIO]]: ...


@overload
def drawn(
    height: float, *, columns: int
) -> AbstractContextManager[tuple[list[Axes], io.StringIO]]: ...


@contextmanager
def drawn(height: float, *, columns: int | None = None) -> Iterator[tuple[Any, io.StringIO]]:
    """An empty picture of this height in inches; its SVG is in the text at the end."""
    out = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        yield figure.subplots() if columns is None else list(figure.subplots(1, columns)), out
        _lay_out(figure)
        figure.savefig(out, format="svg", metadata=NO_METADATA)


def _lay_out(figure: Figure) -> None:
    """Compute the layout once; `savefig` would draw everything a second time for it."""
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine(None)


def line_style(number: int) -> dict[str, Any]:
    """Colour and dashes of line `number`, distinguishable without colour, too."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
        "linewidth": 1.2,
    }


def tally(count: int, most: int) -> str:
    """The number shown, and the total if it is larger: `7`, or `12 of 19`."""
    return f"{count}" if count <= most else f"{most} of {count}"


def draw_boundary(
    axes: Axes, answers: Any, logits: Any, extent: tuple[float, float, float, float]
) -> None:
    """Colour the area of answer 1, with a line where the output is zero."""
    colours = ListedColormap(COLOURS[:2])
    axes.contourf(answers, levels=[-0.5, 0.5, 1.5], extent=extent, cmap=colours, alpha=0.15)
    axes.contour(logits, levels=[0.0], extent=extent, colors=INK, linewidths=1)
    axes.set_aspect("equal")
    axes.set_xlabel("x0")
    axes.set_ylabel("x1")
    axes.grid(visible=False)


def draw_points(axes: Axes, points: pd.DataFrame, size: float) -> None:
    """Points at `x0` and `x1` by their `label`."""
    for label, marker in enumerate("os"):
        own = points[points["label"] == label]
        style: dict[str, Any] = {"s": size, "marker": marker, "color": COLOURS[label]}
        axes.scatter(own["x0"], own["x1"], label=f"label {label}", **style)


def name_rows(axes: Axes, names: Sequence[str]) -> list[float]:
    """Name the rows of a picture, the first on top, and set its height accordingly.

    Returns the edges between the rows, from the top: one more than there are rows.
    """
    labels = [_filled(name, NAME) for name in names]
    heights = [label.count("\n") + ROW_LINES for label in labels]
    edges = list(accumulate(heights, initial=0.0))
    axes.set_yticks(middles(edges), labels)
    axes.set_ylim(edges[-1], 0)
    _grow(axes, edges[-1])
    return edges


def middles(edges: Sequence[float]) -> list[float]:
    """The middle of each row."""
    return [(low + high) / 2 for low, high in pairwise(edges)]


def legend(axes: Axes) -> None:
    """Add a legend above the picture, which grows, so that the legend covers no data."""
    handles, names = axes.get_legend_handles_labels()
    if not names:  # matplotlib ignores names that begin with an underscore
        return
    labels = [_filled(name, ENTRY - HANDLE) for name in names]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    columns = max(1, min(len(labels), ENTRY // (longest + HANDLE)))
    lines = max(label.count("\n") + 1 for label in labels)
    axes.figure.legend(handles, labels, loc="outside upper left", ncols=columns)
    _grow(axes, ceil(len(labels) / columns) * lines)


def _filled(name: str, width: int) -> str:
    """The name in lines; a long name loses its middle, between the case and its config."""
    half = LONGEST // 2
    lines = textwrap.TextWrapper(width)
    lines.wordsep_re = BREAKS
    return lines.fill(name if len(name) <= LONGEST else f"{name[:half]}…{name[-half:]}")


def _grow(axes: Axes, lines: float) -> None:
    figure = cast("Figure", axes.figure)
    figure.set_figheight(figure.get_figheight() + lines * LINE_IN)


def short_names(names: Sequence[str]) -> list[str]:
    """Case ids without their common parts."""
    parts = [_parts(name) for name in names]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    return [
        " ".join(part for part in own if part not in shared).replace(" =", "=").lstrip("=") or name
        for own, name in zip(parts, names, strict=True)
    ]


def _parts(name: str) -> list[str]:
    """The parts of an id; a setting and its value are two parts, which may be common."""
    words = re.split(r"-|(?=@)|\+| ", name)
    return [part for word in words for part in re.sub(r"=(?=[^=]*$)", "\n=", word).split("\n")]
