"""The canary's answer: a line a question, and the verdict."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from tabulate import tabulate

from xorbench.errors import EXIT_WORDS
from xorbench.judge.canary import BurnedUnit
from xorbench.judge.verdicts import Verdict, summary

MARKS: Final = {"pass": "PASS", "fail": "FAIL", "inconclusive": "?", "skipped": "-"}


def text(
    verdicts: Sequence[Verdict], machine: dict[str, Any], wall_s: float, exit_code: int
) -> str:
    """For people: what was found on each device, the hints, the verdict in the last line."""
    rows = [[MARKS[v.outcome], v.subject, v.check, v.actual] for v in verdicts]
    hints = [f"{v.check} on {v.subject}: expected {v.expected}; hint: {v.hint}"
             for v in verdicts if v.hint and v.outcome == "fail"]  # fmt: skip
    last = f"{EXIT_WORDS[exit_code]}: {summary(verdicts)}, {_software(machine)}, {wall_s:.1f} s"
    return "\n".join([tabulate(rows, tablefmt="plain", disable_numparse=True), *hints, last])


def markdown(
    verdicts: Sequence[Verdict], machine: dict[str, Any], wall_s: float, exit_code: int
) -> str:
    """For a CI: the verdict, and a table of what was found."""
    import pandas as pd  # slow to import, and no matter of the terminal

    from xorbench.report.text import Title, markdown_text

    columns = ["outcome", "device", "check", "found", "hint"]
    rows = [[v.outcome, v.subject, v.check, v.actual, v.hint] for v in verdicts]
    frame = pd.DataFrame(rows, columns=columns, dtype=str)
    last = f"{summary(verdicts)}, {_software(machine)}, {wall_s:.1f} s"
    return markdown_text([Title(f"xorbench canary: {EXIT_WORDS[exit_code]}"), frame, last])


def as_json(
    verdicts: Sequence[Verdict],
    machine: dict[str, Any],
    wall_s: float,
    exit_code: int,
    burned: Mapping[str, Sequence[BurnedUnit]],
) -> str:
    """For programs; rates are FLOP or bytes a second, one a turn."""
    answer = {
        "schema_version": 1,
        "verdict": EXIT_WORDS[exit_code],
        "exit_code": exit_code,
        "wall_s": wall_s,
        "machine": machine,
        "verdicts": verdicts,
        "burned": burned,
    }
    return json.dumps(msgspec.to_builtins(answer), indent=2)


def _software(machine: dict[str, Any]) -> str:
    if not machine:
        return "no process was ready"
    return f"PyTorch {machine['torch_version']}, {machine['cpu_capability']}"
