"""The canary's report: one line per check, and the verdict."""

import json
from typing import Final

import msgspec
from tabulate import tabulate

from xorbench.errors import EXIT_WORDS
from xorbench.machine.canary.verdicts import CanaryOutcome
from xorbench.verdicts import summary

MARKS: Final = {"pass": "PASS", "fail": "FAIL", "inconclusive": "?", "skipped": "-"}


def text(outcome: CanaryOutcome) -> str:
    """The report for a terminal: results, hints, and the verdict in the last line."""
    verdicts = outcome.verdicts
    rows = [[MARKS[v.outcome], v.subject, v.check, v.actual] for v in verdicts]
    hints = [f"{v.check} on {v.subject}: expected {v.expected}; hint: {v.hint}"
             for v in verdicts if v.hint and v.outcome == "fail"]  # fmt: skip
    last = f"{EXIT_WORDS[outcome.exit_code]}: {_summary(outcome)}"
    return "\n".join([tabulate(rows, tablefmt="plain", disable_numparse=True), *hints, last])


def markdown(outcome: CanaryOutcome) -> str:
    """The report for a CI: the verdict and a table of results."""
    import pandas as pd  # slow to import, and not needed for the terminal

    from xorbench.report.text import to_markdown

    columns = ["outcome", "device", "check", "result", "hint"]
    rows = [[v.outcome, v.subject, v.check, v.actual, v.hint] for v in outcome.verdicts]
    frame = pd.DataFrame(rows, columns=columns, dtype=str)
    head = f"## xorbench canary: {EXIT_WORDS[outcome.exit_code]}"
    return f"{head}\n\n{to_markdown(frame)}\n\n{_summary(outcome)}\n"


def as_json(outcome: CanaryOutcome) -> str:
    """The report as JSON; rates are FLOP or bytes per second, one per turn."""
    answer = {
        "schema_version": 1,
        "verdict": EXIT_WORDS[outcome.exit_code],
        "exit_code": outcome.exit_code,
        "wall_s": outcome.wall_s,
        "machine": outcome.machine,
        "verdicts": msgspec.to_builtins(outcome.verdicts),
        "burned": msgspec.to_builtins(outcome.burned),
    }
    return json.dumps(answer, indent=2)


def _summary(outcome: CanaryOutcome) -> str:
    machine, software = outcome.machine, "no process was started"
    if machine:
        software = f"PyTorch {machine['torch_version']}, {machine['cpu_capability']}"
    return f"{summary(outcome.verdicts)}, {software}, {outcome.wall_s:.1f} s"
