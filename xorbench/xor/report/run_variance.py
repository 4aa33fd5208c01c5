"""The result of `baseline calibrate`, as text and as JSON."""

from dataclasses import asdict

from xorbench.report.text import to_json
from xorbench.xor.analysis.speed import PACKAGED
from xorbench.xor.compare.run_variance import Calibrated


def as_text(calibrated: Calibrated) -> str:
    """The figures of this machine and of the reference machine."""
    variance, packaged = calibrated.variance, PACKAGED
    rows = (
        ("normalized time, between runs", f"{variance.between:.2%}", f"{packaged.between:.2%}"),
        ("… between processes", f"{calibrated.within:.2%}", ""),
        ("raw calibration time, between runs", f"{calibrated.raw:.2%}", ""),
        ("… under load", f"{calibrated.slowed:.2f}×", ""),
        (
            "share of a drift after normalization",
            f"{variance.residual_drift:.1%}",
            f"{packaged.residual_drift:.1%}",
        ),
    )
    lines = [f"{'standard deviation':42}  {'this machine':>12}  {'reference machine':>17}"]
    lines += [f"{name:42}  {own:>12}  {usual:>17}".rstrip() for name, own, usual in rows]
    notes = [f"note: {text}; other programs affect these figures" for text in calibrated.trouble]
    return "\n".join([*lines, "", *notes, f"Saved: in comparisons, {variance.description}."])


def as_json(calibrated: Calibrated) -> str:
    """As JSON, with every digit."""
    return to_json({"schema_version": 1, **asdict(calibrated)})
