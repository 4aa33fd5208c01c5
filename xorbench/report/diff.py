"""What `diff` found, as text and for programs."""

import msgspec
import pandas as pd

from xorbench.judge.divergence import Divergence, Growth, TracePlace
from xorbench.judge.elements import Difference
from xorbench.report.text import Part, Title, terminal_text, to_json


def as_json(divergence: Divergence, exit_code: int) -> str:
    """Everything that was found, for programs."""
    return to_json({"exit_code": exit_code, **msgspec.to_builtins(divergence)})


def text(divergence: Divergence) -> str:
    """What was found, the inputs first, in a screen."""
    rows = [("A", divergence.a), ("B", divergence.b), *(("", note) for note in divergence.notes)]
    rows += [("inputs", _inputs(divergence)), ("epoch digests", _epoch_digests(divergence))]
    rows += [("replay", divergence.replays)] if divergence.replays else []
    rows += [("", divergence.transient)] if divergence.transient else []
    rows += _place(divergence.place) if divergence.place else []
    whole = divergence.place is not None and divergence.place.tensor == "the order"
    rows += (
        _difference(divergence.difference, "" if whole else "ulps ")
        if divergence.difference
        else []
    )
    width = max(len(key) for key, _ in rows)
    parts: list[Part] = ["\n".join(f"{key:<{width}} {value}".rstrip() for key, value in rows)]
    if divergence.growth:
        parts += [Title("the weights from there on"), _growth(divergence.growth)]
    if divergence.commands:
        parts.append("\n".join(["the values need traces that hold them:", *divergence.commands]))
    return terminal_text(parts)


def _inputs(divergence: Divergence) -> str:
    a, b = divergence.inputs
    if a == b:
        return f"equal: {a[:16]}"
    return f"DIFFER before training begins: points or initial weights {a[:16]} and {b[:16]}"


def _epoch_digests(divergence: Divergence) -> str:
    if not divergence.epochs:
        return "no epoch is on record on both sides"
    if divergence.epoch is None:
        absorbed = (
            ": what differs was absorbed before it reached a weight" if divergence.place else ""
        )
        return f"equal over {divergence.epochs} epochs{absorbed}"
    return f"differ from epoch {divergence.epoch} of {divergence.epochs}"


def _place(place: TracePlace) -> list[tuple[str, str]]:
    where = f"epoch {place.epoch}, step {place.step}"
    if place.tensor is None:
        return [("first", f"{where}: one side has no such step")]
    return [("first", f"{where}: {place.tensor}")]


def _difference(difference: Difference, unit: str) -> list[tuple[str, str]]:
    element = difference.first
    if element is None:
        return difference.kinds or [("element", "the values are equal")]
    ulps = "no distance: not a number" if element.ulps is None else f"{element.ulps:,} {unit}apart"
    return [
        ("element", f"{element.index} of {difference.a.shape}: {ulps}"),
        ("", f"A {element.a_bits} {element.a}"),
        ("", f"B {element.b_bits} {element.b}"),
        (
            "elements",
            f"{difference.differing} of {difference.elements} differ{_largest(difference, unit)}",
        ),
    ]


def _largest(difference: Difference, unit: str) -> str:
    many = difference.differing > 1 and difference.largest_ulps is not None
    return f", by at most {difference.largest_ulps:,} {unit}".rstrip() if many else ""


def _growth(rows: list[Growth]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "step": str(row.step),
                "weights that differ": f"{row.differing} of {row.elements}",
                "largest distance (ulps)": "nan"
                if row.largest_ulps is None
                else f"{row.largest_ulps:,}",
            }
            for row in rows
        ]
    )
