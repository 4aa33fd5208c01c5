"""What `diff` found, as text and for programs."""

import json

import msgspec
import pandas as pd

from xorbench.judge.divergence import Divergence, Growth, TracePlace
from xorbench.judge.elements import Difference
from xorbench.report.text import to_terminal


def as_json(found: Divergence, exit_code: int) -> str:
    """Everything that was found, for programs."""
    return json.dumps({"exit_code": exit_code, **msgspec.to_builtins(found)}, indent=2)


def text(found: Divergence) -> str:
    """What was found, the inputs first, in a screen."""
    rows = [("A", found.a), ("B", found.b), *(("", note) for note in found.notes)]
    rows += [("inputs", _inputs(found)), ("epoch digests", _epoch_digests(found))]
    rows += [("replay", found.replays)] if found.replays else []
    rows += [("", found.transient)] if found.transient else []
    rows += _place(found.place) if found.place else []
    whole = found.place is not None and found.place.tensor == "the order"
    rows += _difference(found.difference, "" if whole else "ulps ") if found.difference else []
    width = max(len(key) for key, _ in rows)
    lines = ["\n".join(f"{key:<{width}} {value}".rstrip() for key, value in rows)]
    if found.growth:
        lines.append(f"the weights from there on\n\n{to_terminal(_growth(found.growth))}")
    if found.commands:
        lines.append("the values need traces that hold them:\n" + "\n".join(found.commands))
    return "\n\n".join(lines)


def _inputs(found: Divergence) -> str:
    a, b = found.inputs
    if a == b:
        return f"equal: {a[:16]}"
    return f"DIFFER before training begins: points or initial weights {a[:16]} and {b[:16]}"


def _epoch_digests(found: Divergence) -> str:
    if not found.epochs:
        return "no epoch is on record on both sides"
    if found.epoch is None:
        absorbed = ": what differs was absorbed before it reached a weight" if found.place else ""
        return f"equal over {found.epochs} epochs{absorbed}"
    return f"differ from epoch {found.epoch} of {found.epochs}"


def _place(place: TracePlace) -> list[tuple[str, str]]:
    where = f"epoch {place.epoch}, step {place.step}"
    if place.tensor is None:
        return [("first", f"{where}: one side has no such step")]
    return [("first", f"{where}: {place.tensor}")]


def _difference(found: Difference, unit: str) -> list[tuple[str, str]]:
    element = found.first
    if element is None:
        return found.kinds or [("element", "the values are equal")]
    ulps = "no distance: not a number" if element.ulps is None else f"{element.ulps:,} {unit}apart"
    return [
        ("element", f"{element.index} of {found.a.shape}: {ulps}"),
        ("", f"A {element.a_bits} {element.a}"),
        ("", f"B {element.b_bits} {element.b}"),
        ("elements", f"{found.differing} of {found.elements} differ{_largest(found, unit)}"),
    ]


def _largest(found: Difference, unit: str) -> str:
    many = found.differing > 1 and found.largest_ulps is not None
    return f", by at most {found.largest_ulps:,} {unit}".rstrip() if many else ""


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
