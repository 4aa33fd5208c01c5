"""`diff` of two traces of user trainings."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from xorbench.errors import BadOption
from xorbench.machine import kernels
from xorbench.programs.conclusion import CheckRuns, Conclusion, RunPair, conclude
from xorbench.programs.first_difference import DETAIL, compare
from xorbench.records import trace as traces
from xorbench.records.redaction import shown_command
from xorbench.records.trace import TraceFile
from xorbench.verdicts import OUTCOME_CODES


def diff(a: str, b: str) -> tuple[Conclusion, int] | None:
    """The result of comparing the traces, and the exit code; None where neither is one.

    Raises `BadOption` where only one is the trace of a program.
    """
    program_a, program_b = _program(a), _program(b)
    if program_a is None and program_b is None:
        return None
    if program_a is None or program_b is None:
        lacking = "A" if program_a is None else "B"
        raise BadOption(f"{lacking}: is no trace of a program, and the other is")
    return between(program_a, program_b)


def _program(text: str) -> TraceFile | None:
    path = Path(text)
    if not traces.is_trace(path):
        return None
    file = traces.opened(path)
    return file if file.head.training is None else None


def between(a: TraceFile, b: TraceFile) -> tuple[Conclusion, int]:
    """Compare two traces; events that only one has, as it was recorded in detail, are ignored."""
    if a.head.digest != b.head.digest:
        raise BadOption(f"B: has digests of another kind: {b.head.digest}, A has {a.head.digest}")
    ignored = DETAIL if a.head.detail != b.head.detail else ()
    compared = compare(a.lines(), b.lines(), a.head.generators, ignored)
    pairs = [RunPair("", compared, "B", "A")]
    runs = CheckRuns(runs=2, pairs=pairs, same_text="A and B are the same")
    unlike = _machines(a.head.machine | a.head.environment, b.head.machine | b.head.environment)
    runs.notes = [*_ranks(a, b), *_commands(a, b), *unlike]
    conclusion = conclude(runs)
    if unlike and conclusion.outcome == "fail":
        hint = "first make equal what the notes tell of, then compare again"
        conclusion = replace(conclusion, hint=hint)
    return conclusion, OUTCOME_CODES[conclusion.outcome]


def _ranks(a: TraceFile, b: TraceFile) -> list[str]:
    """A note where the two are of different ranks, whose batches differ."""
    rank_a, rank_b = (file.head.process.rank if file.head.process else None for file in (a, b))
    if rank_a is None or rank_b is None or rank_a == rank_b:
        return []
    return [f"A is rank {rank_a}, B is rank {rank_b}: each rank has batches of its own"]


def _commands(a: TraceFile, b: TraceFile) -> list[str]:
    """The two commands where they differ."""
    command_a, command_b = (
        shown_command(file.head.process.argv) if file.head.process else "" for file in (a, b)
    )
    return [] if command_a == command_b else [f"command: {command_a} (A), {command_b} (B)"]


def _machines(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """How machines and environments differ, and the possible effect."""
    differing = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
    notes = [
        f"{key}: {_value_text(a.get(key))} (A), {_value_text(b.get(key))} (B)" for key in differing
    ]
    details = [re.sub(r"^(?=[A-Z])", "environment.", key) for key in differing]
    if hint := kernels.hint(details):
        notes.append(hint)
    return notes


def _value_text(value: Any) -> str:
    return "not set" if value is None else str(value)
