"""The digest of each case, and the effect of the settings on the bits."""

from collections.abc import Sequence
from typing import Final

import pandas as pd

from xorbench.report.text import frame_of
from xorbench.verdicts import Verdict
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.settings_table import settings_table as judged_settings_table
from xorbench.xor.checks.sameness import source
from xorbench.xor.report.tables.columns import narrow
from xorbench.xor.report.tables.table import Table, case_frame, note

SUBJECT_CHECKS: Final = ("rerun", "warm-up", "save and load")


def determinism(evidence: Evidence, verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """The digest of each variant's weights, and the outcomes of its checks."""
    outcomes = {(v.check, v.subject): v.outcome for v in verdicts}
    rows = []
    for variant in evidence.variants:
        first = evidence.first(variant)
        rows.append(
            {
                "case": variant.id,
                "weights sha256": first.weights_sha256,
                "processes": len(evidence.trainings[variant.id]),
                "inputs": outcomes.get(("inputs", source(variant)), ""),
                **{check: outcomes.get((check, variant.id), "") for check in SUBJECT_CHECKS},
                "note": note(evidence.run, variant),
            }
        )
    return case_frame(rows, evidence)


def settings_table(evidence: Evidence, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """The required and the observed effect of each setting on the bits."""
    rows = [
        {
            "setting": row.setting,
            "bits": row.must,
            "because": row.reason,
            "seen": row.seen,
            "pairs": row.pairs or None,
            "outcome": row.outcome,
        }
        for row in judged_settings_table(evidence)
    ]
    return frame_of(rows, ["setting", "bits", "because", "seen", "pairs", "outcome"])


DETERMINISM: Final = Table(
    "determinism",
    "Determinism",
    determinism,
    about=(
        "The first 16 digits of the SHA-256 over the trained weights; the CSV file has all"
        " 64. `rerun`: every process recorded the same digests epoch by epoch."
    ),
    terminal=True,
    csv="always",
    brief=narrow,
)
SETTINGS: Final = Table(
    "settings",
    "Effect of each setting on the bits",
    settings_table,
    about=(
        "The required effect of a change of one setting on the bits, compared with the effect in"
        " this run. `ulps`: the largest distance of two weights after that epoch, in float32 ulps."
    ),
)
