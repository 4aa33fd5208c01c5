"""Cases without a result, processes, and outcomes of the checks."""

from collections.abc import Sequence
from typing import Final

import pandas as pd

from xorbench.recorder.environment import labelled
from xorbench.report.details import checks, mib
from xorbench.report.text import frame_of
from xorbench.verdicts import Verdict
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.report.tables.table import Table, lost_rows


def lost(evidence: Evidence, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """Skipped, failed and unfinished cases, each with the reason."""
    return pd.DataFrame(list(lost_rows(evidence)), columns=["case", "process", "what", "reason"])


def lost_lines(frame: pd.DataFrame) -> list[str]:
    """One line per failed or unfinished case; the answers name the skipped ones."""
    return [
        f"{row['what']}: {row['case']} in {row['process']}: {row['reason']}"
        for row in frame.to_dict("records")
        if row["what"] != "skipped"
    ]


def processes(evidence: Evidence, _verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """The processes that trained."""
    rows = [
        {
            "process": process.id,
            "config": process.config.id,
            **labelled(process.machine, "torch_version"),
            "threads": process.machine.get("threads"),
            **labelled(process.machine, "cpu_capability"),
            "peak memory (MiB)": mib(process.peak_rss_bytes),
            "ended": f"died: {process.died}"
            if process.died
            else "normally"
            if evidence.run.info.finished
            else "",
        }
        for process in evidence.run.info.processes
    ]
    return frame_of(rows)


NOT_TRAINED: Final = Table(
    "not trained",
    "Skipped, failed and unfinished cases",
    lost,
    terminal=True,
    optional=True,
    lines=lost_lines,
)
PROCESSES: Final = Table(
    "processes",
    "Processes",
    processes,
)
CHECKS: Final = Table(
    "checks",
    "Checks",
    lambda _evidence, verdicts: checks(verdicts),
)
