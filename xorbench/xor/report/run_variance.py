"""What `baseline calibrate` found, as text and as JSON."""

from dataclasses import asdict

from xorbench.report.text import to_json
from xorbench.xor.analysis.speed import PACKAGED
from xorbench.xor.compare.run_variance import Calibrated


def as_text(calibrated: Calibrated) -> str:
    """The figures beside those of the reference machine, and what uses them."""
    scatter, packaged = calibrated.scatter, PACKAGED
    rows = (
        ("normalized time, from run to run", f"{scatter.between:.2%}", f"{packaged.between:.2%}"),
        ("… from process to process", f"{calibrated.within:.2%}", ""),
        ("raw calibration time, from run to run", f"{calibrated.raw:.2%}", ""),
        ("… under load", f"{calibrated.slowed:.2f}×", ""),
        (
            "what of a drift remains when normalized",
            f"{scatter.residual_drift:.1%}",
            f"{packaged.residual_drift:.1%}",
        ),
    )
    lines = [f"{'standard deviation':42}  {'here':>8}  {'reference machine':>17}"]
    lines += [f"{name:42}  {own:>8}  {usual:>17}".rstrip() for name, own, usual in rows]
    notes = [f"note: {text}; other programs move these figures" for text in calibrated.trouble]
    return "\n".join([*lines, "", *notes, f"Saved: in comparisons, {scatter.description}."])


def as_json(calibrated: Calibrated) -> str:
    """The same, every digit."""
    return to_json({"schema_version": 1, **asdict(calibrated)})
