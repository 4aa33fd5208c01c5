"""Correctness of each case: its test score, and the error of its weights."""

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
    """Correct answers as integers and the last loss, of the worst process."""
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
    """The training of a variant with the fewest correct answers."""
    return min(evidence.trainings[variant.id], key=lambda t: (t.test.correct, t.train.correct))


def errors(evidence: Evidence, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """The largest weight error after every epoch, in ulps of the largest weight.

    One row per case for the worst process, one column per epoch.
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
    about="Correct answers, counted as integers; the worst process of each case.",
    terminal=True,
    csv="always",
    brief=narrow,
)
FLOAT64_ERROR: Final = Table(
    "float64_error",
    "Distance of the weights from float64",
    errors,
    about=(
        "The largest error of a weight against the same training in float64 (same points,"
        " order and initial weights), in float32 ulps of the largest weight, for the worst"
        " process. Two devices with different bits but similar errors differ by rounding; a"
        " device with a much larger error is faulty. The CSV file has every epoch."
    ),
    optional=True,
    csv="if any",
    brief=some_errors,
)
