"""The result of `diff` as text and JSON."""

import json

import msgspec
import pandas as pd

from xorbench.programs.elements import Difference
from xorbench.report.text import to_terminal
from xorbench.xor.trace.divergence import Divergence, Growth, TracePlace


def as_json(divergence: Divergence, exit_code: int) -> str:
    """The result as JSON."""
    return json.dumps({"exit_code": exit_code, **msgspec.to_builtins(divergence)}, indent=2)


def text(divergence: Divergence) -> str:
    """The result as text, inputs first."""
    rows = [("A", divergence.a), ("B", divergence.b), *(("", note) for note in divergence.notes)]
    rows += [("inputs", _inputs(divergence)), ("epoch digests", _epoch_digests(divergence))]
    rows += [("replay", divergence.replays)] if divergence.replays else []
    rows += [("", divergence.transient)] if divergence.transient else []
    if divergence.place:
        rows.append(("first", _first(divergence.place)))
    if divergence.difference:
        whole = divergence.place is not None and divergence.place.tensor == "the order"
        rows += _difference(divergence.difference, "" if whole else "ulps ")
    width = max(len(key) for key, _ in rows)
    lines = ["\n".join(f"{key:<{width}} {value}".rstrip() for key, value in rows)]
    if divergence.growth:
        lines.append(
            f"weights from the first difference on\n\n{to_terminal(_growth(divergence.growth))}"
        )
    if divergence.commands:
        lines.append("to compare the values, record them:\n" + "\n".join(divergence.commands))
    return "\n\n".join(lines)


def _inputs(divergence: Divergence) -> str:
    a, b = divergence.inputs
    if a == b:
        return f"equal: {a[:16]}"
    return f"DIFFER before training: points or initial weights {a[:16]} and {b[:16]}"


def _epoch_digests(divergence: Divergence) -> str:
    if not divergence.epochs:
        return "no epoch is recorded on both sides"
    if divergence.epoch is not None:
        return f"differ from epoch {divergence.epoch} of {divergence.epochs}"
    equal = f"equal over {divergence.epochs} epochs"
    absorbed = f"{equal}: the difference did not reach a weight"
    return absorbed if divergence.place else equal


def _first(place: TracePlace) -> str:
    tensor = "one side has no such step" if place.tensor is None else place.tensor
    return f"epoch {place.epoch}, step {place.step}: {tensor}"


def _difference(difference: Difference, unit: str) -> list[tuple[str, str]]:
    element = difference.first
    if element is None:
        return difference.kinds or [("element", "the values are equal")]
    ulps = "no distance: not a number" if element.ulps is None else f"{element.ulps:,} {unit}apart"
    count = f"{difference.differing} of {difference.elements} differ"
    return [
        ("element", f"{element.index} of {difference.a.shape}: {ulps}"),
        ("", f"A {element.a_bits} {element.a}"),
        ("", f"B {element.b_bits} {element.b}"),
        ("elements", f"{count}{_largest(difference, unit)}"),
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
