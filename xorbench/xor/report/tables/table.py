"""What a table of a run's report is, and what its cells are made of."""

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
        about: what stands under its title.
        terminal: it is printed at the end of a run.
        optional: it is left out where it has no rows.
        csv: whether it is written as a CSV file too: always, if it has rows, or not at all.
        brief: makes the table that is shown from the data frame; the CSV file has all of that.
        lines: what a terminal shows in place of a table.
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
        """What its CSV file holds; None where it has none."""
        return None if self.csv == "never" or (self.csv == "if any" and frame.empty) else frame


def case_frame(rows: list[TableRow], evidence: Evidence) -> pd.DataFrame:
    """The rows with their settings, and one row with the reason for each case without a result."""
    reasons = lost_reasons(evidence, {row["case"] for row in rows})
    rows = rows + [{"case": case, "note": reason} for case, reason in reasons.items()]
    lost = map(evidence.variant, evidence.run.failures)
    return with_settings(frame_of(rows), [*evidence.planned, *lost])


def lost_reasons(evidence: Evidence, shown: Collection[str]) -> dict[str, str]:
    """Why each case that is not shown has no result, by its id."""
    reasons: dict[str, str] = {}
    for row in lost_rows(evidence):
        if row["case"] not in shown and row["what"] != "skipped":
            reasons.setdefault(row["case"], f"{row['what']}: {row['reason']}")
    return reasons


def note(run: Run, variant: Variant) -> str:
    """What does not act here, and where it failed besides."""
    notes = [idle_note(variant.case, has_accelerator(run))]
    if any(f.case == variant.case and f.config == variant.config.id for f in run.failures):
        notes.append("failed in another process")
    return "; ".join(filter(None, notes))


def figure(measured: Figure | None, scale: float = 1.0) -> Figure:
    """The figure in the unit of its column, `scale` of which make one of its own."""
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
    for name, open_cases in evidence.unfinished.items():
        for open_case in open_cases:
            done = f"{open_case.epochs} of {run.info.recipe.epochs} epochs"
            yield {
                "case": name,
                "process": open_case.slot,
                "what": "unfinished",
                "reason": f"{done}; --resume {run.info.id} goes on",
            }
