"""How right each case is: counted answers, and the error of its weights."""

from collections.abc import Sequence
from typing import Final

import pandas as pd

from xorbench.judge.evidence import Evidence
from xorbench.judge.float64_error import drift_ulps
from xorbench.judge.verdicts import Verdict
from xorbench.report.tables.table import Table, case_frame, note


def accuracy(evidence: Evidence, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """Right answers as integers, the worst process's where they differ, and the last loss."""
    rows = []
    for variant in evidence.variants:
        worst = min(evidence.trainings[variant.id], key=lambda t: (t.test.correct, t.train.correct))
        rows.append(
            {
                "case": variant.id,
                "test correct": worst.test.correct,
                "test total": worst.test.total,
                "train correct": worst.train.correct,
                "train total": worst.train.total,
                "last loss": worst.losses[-1],
                "processes": len(evidence.trainings[variant.id]),
                "note": note(evidence.run, variant),
            }
        )
    return case_frame(rows, evidence)


def errors(evidence: Evidence, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """Largest error of a weight after every epoch, in ulps of the largest, of the worst process.

    One column a case.
    """
    found = {}
    for variant in evidence.variants:
        each = [drift_ulps(evidence, one) for one in evidence.trainings[variant.id]]
        if all(each):
            found[variant.id] = [max(after) for after in zip(*each, strict=True)]
    return pd.DataFrame(found).rename_axis("epoch").reset_index()


def some_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a case: after some of its epochs, and the largest."""
    rows = []
    for case in frame.columns[1:]:
        errors = frame[case].tolist()
        shown = sorted({0, len(errors) // 10, len(errors) // 2, len(errors) - 1})
        after = {f"after epoch {at} (ulps)": errors[at] for at in shown}
        rows.append({"case": case, **after, "largest (ulps)": max(errors)})
    return pd.DataFrame(rows)


ACCURACY: Final = Table(
    "accuracy",
    "Accuracy",
    accuracy,
    about="Counted as integers. Of several processes the worst is shown.",
    terminal=True,
    csv="always",
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
