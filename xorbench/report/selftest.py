"""The table of `selftest`: fault × check."""

from collections.abc import Sequence

import pandas as pd

from xorbench.report.text import terminal_text, to_json

SelftestRow = tuple[str, str, str]  # fault, check, the message of the check
LONGEST = 80  # characters of a message


def text(rows: Sequence[SelftestRow], alarms: Sequence[str], wall_s: float) -> str:
    """Every fault with the check that should catch it and its message, then the verdict."""
    frame = pd.DataFrame(
        [
            {
                "fault": fault,
                "check": check,
                "caught": "yes" if message else "MISSED",
                "what it said": _shortened(message),
            }
            for fault, check, message in rows
        ]
    )
    missed = sum(not message for _, _, message in rows)
    caught = f"{len(rows) - missed} of {len(rows)} faults caught"
    clean = f"{len(alarms)} alarms of the clean run"
    raised = [f"FALSE ALARM {alarm}" for alarm in alarms]
    return terminal_text([frame, *raised, f"{caught}, {clean}, {wall_s:.0f} s"])


def _shortened(message: str) -> str:
    return message if len(message) < LONGEST else f"{message[: LONGEST - 1]}…"


def as_json(rows: Sequence[SelftestRow], alarms: Sequence[str], exit_code: int) -> str:
    """The same for programs."""
    faults = [{"fault": f, "check": c, "caught": bool(s), "said": s} for f, c, s in rows]
    return to_json({"exit_code": exit_code, "faults": faults, "alarms": alarms})
