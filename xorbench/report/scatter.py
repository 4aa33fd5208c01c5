"""What `calibrate` found, as text and as JSON."""

import json
from dataclasses import asdict

from xorbench.judge.scatter import Calibrated
from xorbench.judge.speed import PACKAGED


def as_text(found: Calibrated) -> str:
    """The figures beside those of the reference machine, and what uses them."""
    here, other = found.scatter, PACKAGED
    rows = (
        ("normalized time, from run to run", f"{here.between:.2%}", f"{other.between:.2%}"),
        ("… from process to process", f"{found.within:.2%}", ""),
        ("raw calibration time, from run to run", f"{found.raw:.2%}", ""),
        ("… under load", f"{found.slowed:.2f}×", ""),
        (
            "what of a drift remains when normalized",
            f"{here.residual_drift:.1%}",
            f"{other.residual_drift:.1%}",
        ),
    )
    lines = [f"{'standard deviation':42}  {'here':>8}  {'reference machine':>17}"]
    lines += [f"{name:42}  {mine:>8}  {theirs:>17}".rstrip() for name, mine, theirs in rows]
    notes = [f"note: {text}; other programs move these figures" for text in found.trouble]
    return "\n".join([*lines, "", *notes, f"Saved: in comparisons, {here.told}."])


def as_json(found: Calibrated) -> str:
    """The same, every digit."""
    return json.dumps({"schema_version": 1, **asdict(found)}, indent=2)
