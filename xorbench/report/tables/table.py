"""What a table of a run's report is, and what its cells are made of."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from xorbench.judge.cost_model import has_accelerator
from xorbench.judge.evidence import Evidence
from xorbench.judge.stats import Estimate
from xorbench.judge.verdicts import Verdict
from xorbench.observe.records.run import Run
from xorbench.plan.axes import idle_note
from xorbench.plan.case import Variant
from xorbench.report.text import TableRow, frame_of


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
        brief: from the rows to those that are shown; the CSV file has them all.
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
    """The rows, and one for each case that was lost and so has none, which says why."""
    shown = {row["case"] for row in rows}
    reasons: dict[str, str] = {}
    for row in lost_rows(evidence):
        if row["case"] not in shown and row["what"] != "skipped":
            reasons.setdefault(row["case"], f"{row['what']}: {row['reason']}")
    return frame_of(rows + [{"case": case, "note": note} for case, note in reasons.items()])


def note(run: Run, variant: Variant) -> str:
    """What does not act here, and where it failed besides."""
    notes = [idle_note(variant.case, has_accelerator(run))]
    if any(f.case == variant.case and f.config == variant.config.id for f in run.failures):
        notes.append("failed in another process")
    return "; ".join(filter(None, notes))


def figure(name: str, estimate: Estimate | None, scale: float = 1.0) -> TableRow:
    """A figure with its interval, as three cells."""
    if estimate is None:
        return {name: None, f"{name} low": None, f"{name} high": None}
    bounds = (estimate.value, estimate.low, estimate.high)
    keys = (name, f"{name} low", f"{name} high")
    return {k: None if b is None else b * scale for k, b in zip(keys, bounds, strict=True)}


def mib(size: int | None) -> float | None:
    """Bytes as MiB."""
    return None if size is None else size / 2**20


def lost_rows(evidence: Evidence) -> Iterator[TableRow]:
    """A row for each case that failed, or not brought to its end; one for those skipped alike."""
    run = evidence.run
    for (device, reason), count in Counter((s.case.device, s.skipped) for s in run.skips).items():
        cases = f"{count} {device} case" + ("s" if count > 1 else "")
        yield {"case": cases, "process": "", "what": "skipped", "reason": reason}
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
