"""The picture of which cases have identical bits."""

from typing import Final

import pandas as pd
from matplotlib.colors import ListedColormap

from xorbench.report.content import NOTHING, Picture
from xorbench.report.drawing import COLOURS, drawn, name_rows, short_names
from xorbench.xor.analysis.evidence import Evidence

MOST_IN_MATRIX: Final = 40
MOST_NUMBERS: Final = 20  # numbers below the columns


def identical_bits(evidence: Evidence) -> pd.DataFrame:
    """A matrix of cases: 1 where two have identical weights, else 0."""
    variants = evidence.variants[:MOST_IN_MATRIX]
    digests = {variant.id: evidence.first(variant).weights_sha256 for variant in variants}
    if len(digests) < 2:
        return NOTHING
    rows = {name: [int(own == d) for d in digests.values()] for name, own in digests.items()}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(digests))
    return frame.rename_axis("case").reset_index()


def draw_identical_bits(frame: pd.DataFrame) -> str:
    """A filled square where two cases have identical bits."""
    names = [f"{place} {name}" for place, name in enumerate(short_names(list(frame["case"])), 1)]
    with drawn(0.7) as (axes, out):
        edges = name_rows(axes, names)
        axes.pcolormesh(
            range(len(edges)),
            edges,
            frame.drop(columns="case").to_numpy(),
            cmap=ListedColormap(["#7f7f7f22", COLOURS[0]]),
            vmin=0,
            vmax=1,
            edgecolors="#7f7f7f55",
            linewidth=0.5,
        )
        shown = range(0, len(names), 1 + len(names) // MOST_NUMBERS)
        axes.set_xticks([place + 0.5 for place in shown], [f"{place + 1}" for place in shown])
        axes.grid(visible=False)
        axes.tick_params(length=0)
    return out.getvalue()


def describe_identical_bits(frame: pd.DataFrame) -> str:
    """The number of distinct results."""
    cells = frame.drop(columns="case")
    return f"{len(cells)} cases, {len(cells.drop_duplicates())} distinct sets of weights."


IDENTICAL_BITS: Final = Picture(
    "same-bits",
    "Which cases have identical bits",
    "A filled square: the case of the row and the case with the number of the column have bitwise"
    " identical weights",
    identical_bits,
    draw_identical_bits,
    describe_identical_bits,
    "determinism",
)
