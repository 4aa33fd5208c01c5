"""The table of `selftest`: fault × check."""

import json
from dataclasses import dataclass

import pandas as pd

from xorbench.errors import CHECK_FAILED, PASSED
from xorbench.report.text import to_terminal


@dataclass(frozen=True, slots=True)
class Caught:
    """One fault, the check that should catch it, and its failure; empty if it missed the fault."""

    fault: str
    check: str
    failure: str


@dataclass(frozen=True, slots=True)
class SelftestOutcome:
    """The result of every fault, and the checks that failed in a run without a fault."""

    caught: list[Caught]
    alarms: list[str]

    @property
    def exit_code(self) -> int:
        """Passed if every fault was caught, without a false alarm."""
        missed = not all(row.failure for row in self.caught)
        return CHECK_FAILED if missed or self.alarms else PASSED


def text(outcome: SelftestOutcome, wall_s: float) -> str:
    """Every fault with the check that should catch it and its failure, then the verdict."""
    rows, alarms = outcome.caught, outcome.alarms
    frame = pd.DataFrame(
        [
            {
                "fault": row.fault,
                "check": row.check,
                "caught": "yes" if row.failure else "MISSED",
                "failure": row.failure if len(row.failure) < 80 else f"{row.failure[:79]}…",
            }
            for row in rows
        ]
    )
    lines = [to_terminal(frame), *(f"FALSE ALARM {alarm}" for alarm in alarms)]
    caught = f"{sum(bool(row.failure) for row in rows)} of {len(rows)} faults caught"
    clean = f"{len(alarms)} false alarms in the clean run"
    return "\n\n".join([*lines, f"{caught}, {clean}, {wall_s:.0f} s"])


def as_json(outcome: SelftestOutcome) -> str:
    """As JSON."""
    faults = [
        {
            "fault": row.fault,
            "check": row.check,
            "caught": bool(row.failure),
            "failure": row.failure,
        }
        for row in outcome.caught
    ]
    answer = {"exit_code": outcome.exit_code, "faults": faults, "alarms": outcome.alarms}
    return json.dumps(answer, indent=2)
