"""A table of a run's report, and its cells."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from xorbench.records.schema.run import Run
from xorbench.report.text import TableRow, frame_of
from xorbench.stats.figure import MISSING, Figure
from xorbench.verdicts import Verdict
from xorbench.xor.analysis.cost_model import has_accelerator
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.matrix.axes import idle_note
from xorbench.xor.matrix.case import Variant
from xorbench.xor.matrix.not_tested import not_tested
from xorbench.xor.report.tables.columns import with_settings


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a run's report.

    Attributes:
        make: the function from evidence and verdicts to its rows; `X`, `X low` and `X high` in the
            names of its columns are a figure and its interval.
        about: the text under its title.
        terminal: it is printed at the end of a run.
        optional: it is omitted if it has no rows.
        csv: whether it is also written as a CSV file: always, if it has rows, or never.
        brief: function from the data frame to the displayed table; the CSV file has all of it.
        lines: function from the data frame to the lines that a terminal shows instead.
    """

    name: str
    title: str
    make: Callable[[Evidence, Sequence[Verdict]], pd.DataFrame]
    about: str = ""
    terminal: bool = False
    optional: bool = False
    csv: Literal["always", "if any", "never"] = "never"
    brief: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    lines: Callable[[pd.DataFrame], Sequence[str]] | None = None

    def filed(self, frame: pd.DataFrame) -> pd.DataFrame | None:
        """The content of its CSV file; None without a file."""
        return None if self.csv == "never" or (self.csv == "if any" and frame.empty) else frame


def case_frame(rows: list[TableRow], evidence: Evidence) -> pd.DataFrame:
    """The rows with their settings, and one row with the reason for each case without a result."""
    reasons = lost_reasons(evidence, {row["case"] for row in rows})
    rows = rows + [{"case": case, "note": reason} for case, reason in reasons.items()]
    lost = map(evidence.variant, evidence.run.failures)
    return with_settings(frame_of(rows), [*evidence.planned, *lost])


def lost_reasons(evidence: Evidence, shown: Collection[str]) -> dict[str, str]:
    """Why each case that is not shown has no result, by case id."""
    reasons: dict[str, str] = {}
    for row in lost_rows(evidence):
        if row["case"] not in shown and row["what"] != "skipped":
            reasons.setdefault(row["case"], f"{row['what']}: {row['reason']}")
    return reasons


def note(run: Run, variant: Variant) -> str:
    """Settings without effect here, and a failure in another process."""
    notes = [idle_note(variant.case, has_accelerator(run))]
    if any(f.case == variant.case and f.config == variant.config.id for f in run.failures):
        notes.append("failed in another process")
    return "; ".join(filter(None, notes))


def figure(measured: Figure | None, scale: float = 1.0) -> Figure:
    """The figure in the unit of its column, multiplied by `scale`."""
    return MISSING if measured is None else measured.scaled(scale)


def lost_rows(evidence: Evidence) -> Iterator[TableRow]:
    """One row per failed or unfinished case, and one per device and reason for skipped ones."""
    run = evidence.run
    for device in not_tested(run.skips):
        cases = f"{device.subject}: {device.counted}"
        yield {"case": cases, "process": "", "what": "skipped", "reason": device.reason}
    for failure in run.failures:
        variant = evidence.variant(failure)
        yield {
            "case": variant.id,
            "process": failure.process,
            "what": "failed",
            "reason": failure.failed,
        }
    for name, trainings in evidence.unfinished.items():
        for training in trainings:
            done = f"{training.epochs} of {run.info.recipe.epochs} epochs"
            yield {
                "case": name,
                "process": training.slot,
                "what": "unfinished",
                "reason": f"{done}; run --resume {run.info.id} continues it",
            }
