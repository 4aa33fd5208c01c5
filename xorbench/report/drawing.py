"""An empty picture to draw in. Colours are Okabe and Ito's, safe for colour-blind readers."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, overload

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Lines, text and background: a page has its own colours in their place, light or dark.
INK: Final = "#1a1a1b"
PAPER: Final = "#fffffe"
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
DASHES: Final = ("-", "--", ":")
MOST_LINES: Final = 12  # in one picture
WIDTH_IN: Final = 5.6  # narrow enough to be read on a phone
STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
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
    "legend.fontsize": 7.5,
}
NOTHING_SAID: Final = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@overload
def drawn(height: float) -> AbstractContextManager[tuple[Axes, io.StringIO]]: ...


@overload
def drawn(
    height: float, *, columns: int
) -> AbstractContextManager[tuple[list[Axes], io.StringIO]]: ...


@contextmanager
def drawn(height: float, *, columns: int | None = None) -> Iterator[tuple[Any, io.StringIO]]:
    """An empty picture, as high as asked for in inches; its SVG is in the text at the end."""
    out = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        yield figure.subplots() if columns is None else list(figure.subplots(1, columns)), out
        figure.savefig(out, format="svg", metadata=NOTHING_SAID)


def inline(svg: str, name: str) -> str:
    """The picture as a part of a page: in the page's colours, its ids apart from others'."""
    svg = svg[svg.index("<svg") :]
    svg = svg.replace(INK, "var(--ink)").replace(PAPER, "var(--paper)")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    return re.sub(r' (?:width|height)="[^"]*pt"', "", svg, count=2)


def line_style(number: int) -> dict[str, Any]:
    """Colour and dashes of the so-manieth line; told apart without colour, too."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
        "linewidth": 1.2,
    }


def short_names(names: Sequence[str]) -> list[str]:
    """Case ids without the parts that all of them share."""
    parts = [_parts(name) for name in names]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    return [
        " ".join(part for part in own if part not in shared).replace(" =", "=").lstrip("=") or name
        for own, name in zip(parts, names, strict=True)
    ]


def _parts(name: str) -> list[str]:
    """What an id is made of; a setting and its value are two parts, so that one may be shared."""
    words = re.split(r"-|(?=@)|\+| ", name)
    return [part for word in words for part in re.sub(r"=(?=[^=]*$)", "\n=", word).split("\n")]
