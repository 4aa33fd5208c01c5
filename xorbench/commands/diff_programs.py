"""`diff` of two traces of trainings of the user's own."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from xorbench.errors import BadOption
from xorbench.judge.check import CheckRuns, Conclusion, RunPair, conclude
from xorbench.judge.first_difference import DETAIL, compare
from xorbench.judge.verdicts import OUTCOME_CODES
from xorbench.observe import trace as traces
from xorbench.observe.redaction import shown_command
from xorbench.observe.trace import TraceFile
from xorbench.plan import kernels


def diff(a: str, b: str) -> tuple[Conclusion, int] | None:
    """The result of comparing the traces, and the exit code; None where neither is one.

    Raises `BadOption` where only one is the trace of a program.
    """
    files = {name: _program(text) for name, text in (("A", a), ("B", b))}
    found = [file for file in files.values() if file is not None]
    if not found:
        return None
    if len(found) == 1:
        lacking = next(name for name, file in files.items() if file is None)
        raise BadOption(f"{lacking}: is no trace of a program, and the other is")
    return between(*found)


def _program(text: str) -> TraceFile | None:
    path = Path(text)
    if not traces.is_trace(path):
        return None
    file = traces.opened(path)
    return file if file.head.training is None else None


def between(a: TraceFile, b: TraceFile) -> tuple[Conclusion, int]:
    """Compare two traces; what only one of them has recorded in detail is passed over."""
    if a.head.digest != b.head.digest:
        raise BadOption(f"B: has digests of another kind: {b.head.digest}, A has {a.head.digest}")
    left_out = DETAIL if a.head.detail != b.head.detail else ()
    compared = compare(a.lines(), b.lines(), a.head.generators, left_out)
    pairs = [RunPair("", compared, "B", "A")]
    runs = CheckRuns(runs=2, pairs=pairs, who="A and B are the same")
    unlike = _machines(a.head.machine | a.head.environment, b.head.machine | b.head.environment)
    runs.notes = [*_ranks(a, b), *_commands(a, b), *unlike]
    conclusion = conclude(runs)
    if unlike and conclusion.outcome == "fail":
        hint = "first make equal what the notes tell of, then compare again"
        conclusion = replace(conclusion, hint=hint)
    return conclusion, OUTCOME_CODES[conclusion.outcome]


def _ranks(a: TraceFile, b: TraceFile) -> list[str]:
    """That the two are of different ranks, whose batches are not the same."""
    one, other = (file.head.process.rank if file.head.process else None for file in (a, b))
    if one is None or other is None or one == other:
        return []
    return [f"A is rank {one}, B is rank {other}: each rank has batches of its own"]


def _commands(a: TraceFile, b: TraceFile) -> list[str]:
    """The two commands where they are not the same."""
    one, other = (
        shown_command(file.head.process.argv) if file.head.process else "" for file in (a, b)
    )
    return [] if one == other else [f"command: {one} (A), {other} (B)"]


def _machines(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What of the machines and environments differs, and what that may do."""
    differing = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
    notes = [f"{key}: {_said(a.get(key))} (A), {_said(b.get(key))} (B)" for key in differing]
    facts = [re.sub(r"^(?=[A-Z])", "environment.", key) for key in differing]
    if hint := kernels.hint(facts):
        notes.append(hint)
    return notes


def _said(value: Any) -> str:
    return "not set" if value is None else str(value)
