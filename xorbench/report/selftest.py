"""The table of `selftest`: fault × check."""

import json
from collections.abc import Sequence

import pandas as pd

from xorbench.report.text import to_terminal

SelftestRow = tuple[str, str, str]  # fault, check, what the check said


def text(rows: Sequence[SelftestRow], alarms: Sequence[str], wall_s: float) -> str:
    """Every fault with the check that should catch it and what it said, then the verdict."""
    frame = pd.DataFrame(
        [
            {
                "fault": fault,
                "check": check,
                "caught": "yes" if said else "MISSED",
                "what it said": said if len(said) < 80 else f"{said[:79]}…",
            }
            for fault, check, said in rows
        ]
    )
    missed = sum(not said for _, _, said in rows)
    lines = [to_terminal(frame), *(f"FALSE ALARM {alarm}" for alarm in alarms)]
    caught = f"{len(rows) - missed} of {len(rows)} faults caught"
    clean = f"{len(alarms)} alarms of the clean run"
    return "\n\n".join([*lines, f"{caught}, {clean}, {wall_s:.0f} s"])


def as_json(rows: Sequence[SelftestRow], alarms: Sequence[str], exit_code: int) -> str:
    """The same for programs."""
    faults = [{"fault": f, "check": c, "caught": bool(s), "said": s} for f, c, s in rows]
    found = {"exit_code": exit_code, "faults": faults, "alarms": list(alarms)}
    return json.dumps(found, indent=2)
