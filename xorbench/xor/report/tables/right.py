"""How right each case is: counted answers, and the error of its weights."""

from collections.abc import Sequence
from typing import Final

import pandas as pd

from xorbench.records.schema.training import TrainingRecord
from xorbench.report.text import frame_of
from xorbench.verdicts import Verdict
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.float64_error import drift_ulps
from xorbench.xor.matrix.case import Variant
from xorbench.xor.report.tables.columns import narrow, score, with_settings
from xorbench.xor.report.tables.table import Table, case_frame, note


def accuracy(evidence: Evidence, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """Right answers as integers, the worst process's where they differ, and the last loss."""
    rows = []
    for variant in evidence.variants:
        worst = worst_training(evidence, variant)
        rows.append(
            {
                "case": variant.id,
                **score("test", worst.test),
                **score("train", worst.train),
                "last loss": worst.losses[-1],
                "processes": len(evidence.trainings[variant.id]),
                "note": note(evidence.run, variant),
            }
        )
    return case_frame(rows, evidence)


def worst_training(evidence: Evidence, variant: Variant) -> TrainingRecord:
    """The training of a variant with the fewest right answers."""
    return min(evidence.trainings[variant.id], key=lambda t: (t.test.correct, t.train.correct))


def errors(evidence: Evidence, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """Largest error of a weight after every epoch, in ulps of the largest, of the worst process.

    One row per case, one column per epoch.
    """
    rows = []
    for variant in evidence.variants:
        each = [drift_ulps(evidence, training) for training in evidence.trainings[variant.id]]
        if all(each):
            worst = [max(after) for after in zip(*each, strict=True)]
            after = {_after(epoch): error for epoch, error in enumerate(worst)}
            rows.append({"case": variant.id, **after, "largest (ulps)": max(worst)})
    return with_settings(frame_of(rows), evidence.planned)


def some_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per case: the error after some of its epochs, and the largest."""
    if frame.empty:
        return frame
    epochs = sum(name.startswith("after epoch ") for name in frame.columns)
    shown = sorted({0, epochs // 10, epochs // 2, epochs - 1})
    return frame[["case", *map(_after, shown), "largest (ulps)"]]


def _after(epoch: int) -> str:
    return f"after epoch {epoch} (ulps)"


ACCURACY: Final = Table(
    "accuracy",
    "Accuracy",
    accuracy,
    about="Counted as integers. Of several processes the worst is shown.",
    terminal=True,
    csv="always",
    brief=narrow,
)
FLOAT64_ERROR: Final = Table(
    "float64_error",
    "How far the weights are from double precision",
    errors,
    about=(
        "The largest error of a weight against the same training in float64 (same points,"
        " order and initial weights), in float32's ulps at the largest weight, of the worst"
        " process. Two devices with other bits but errors of one size have both rounded;"
        " one with a far larger error is wrong. The CSV file has every epoch."
    ),
    optional=True,
    csv="if any",
    brief=some_errors,
)
