"""`diff` of two traces of user trainings."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from xorbench.errors import PASSED, BadOption
from xorbench.machine import kernels
from xorbench.programs.conclusion import CheckRuns, Conclusion, RunPair, conclude
from xorbench.programs.first_difference import DETAIL, compare
from xorbench.programs.questions import trace
from xorbench.programs.questions.rounding import NOISY_RUNS
from xorbench.programs.rounding import Comparison, judge, read_steps
from xorbench.programs.rounding_report import conclusion_of
from xorbench.records import trace as traces
from xorbench.records.redaction import shown_command
from xorbench.records.trace import TraceFile
from xorbench.verdicts import OUTCOME_CODES

TRACE_NOISE: Final = "record A and B with xorbench trace --up-to-rounding -o FILE -- CMD"


def diff(a: str, b: str, *, up_to_rounding: bool = False) -> tuple[Conclusion, int] | None:
    """Compare two traces: the conclusion and the exit code; None if neither is a program's trace.

    Raises `BadOption` if only one is a program's trace, and with `up_to_rounding` if any is none.
    """
    program_a, program_b = _program(a), _program(b)
    if program_a is None and program_b is None:
        if up_to_rounding:
            raise BadOption("--up-to-rounding: A is not a trace of a program", TRACE_NOISE)
        return None
    if program_a is None or program_b is None:
        lacking = "A" if program_a is None else "B"
        raise BadOption(f"{lacking}: not a trace of a program, unlike the other file")
    exact = between(program_a, program_b)
    if not up_to_rounding or exact[1] == PASSED:
        return exact
    return _up_to_rounding(program_a, program_b, exact[0])


def _up_to_rounding(a: TraceFile, b: TraceFile, exact: Conclusion) -> tuple[Conclusion, int]:
    """Judge the difference by the noisy runs next to A."""
    if a.head.sketch != b.head.sketch:
        kinds = [file.head.sketch or "none" for file in (a, b)]
        raise BadOption(f"B: kinds of sketches differ: {kinds[0]} (A), {kinds[1]} (B)", TRACE_NOISE)
    paths = [trace.noisy(a.path, number) for number in range(1, NOISY_RUNS + 1)]
    for path in paths:
        if not path.exists():
            raise BadOption(f"--up-to-rounding: no file {path.name} next to A", TRACE_NOISE)
    own, other, *noisy = (read_steps(t.lines()) for t in (a, b, *map(traces.opened, paths)))
    conclusion = conclusion_of(judge(Comparison(own, own, other, noisy)), exact)
    return conclusion, OUTCOME_CODES[conclusion.outcome]


def _program(text: str) -> TraceFile | None:
    path = Path(text)
    if not traces.is_trace(path):
        return None
    file = traces.opened(path)
    return file if file.head.training is None else None


def between(a: TraceFile, b: TraceFile) -> tuple[Conclusion, int]:
    """Compare two traces; events that only detailed recording has are ignored if one lacks it."""
    if a.head.digest != b.head.digest:
        raise BadOption(f"B: kinds of digests differ: {a.head.digest} (A), {b.head.digest} (B)")
    ignored = DETAIL if a.head.detail != b.head.detail else ()
    compared = compare(a.lines(), b.lines(), a.head.generators, ignored)
    pairs = [RunPair("", compared, "B", "A")]
    runs = CheckRuns(runs=2, pairs=pairs, identical_text="A and B are bitwise identical")
    machines = _machines(a.head.machine | a.head.environment, b.head.machine | b.head.environment)
    runs.notes = [*_ranks(a, b), *_commands(a, b), *machines]
    conclusion = conclude(runs)
    if machines and conclusion.outcome == "fail":
        hint = "remove the differences in the notes first, then compare again"
        conclusion = replace(conclusion, hint=hint)
    return conclusion, OUTCOME_CODES[conclusion.outcome]


def _ranks(a: TraceFile, b: TraceFile) -> list[str]:
    """A note if the traces are of different ranks, whose batches differ."""
    rank_a, rank_b = (file.head.process.rank if file.head.process else None for file in (a, b))
    if rank_a is None or rank_b is None or rank_a == rank_b:
        return []
    return [f"A is rank {rank_a}, B is rank {rank_b}: each rank has its own batches"]


def _commands(a: TraceFile, b: TraceFile) -> list[str]:
    """A note if the commands differ."""
    command_a, command_b = (
        shown_command(file.head.process.argv) if file.head.process else "" for file in (a, b)
    )
    return [] if command_a == command_b else [f"command: {command_a} (A), {command_b} (B)"]


def _machines(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Notes on differing machines and environments, and the possible effect."""
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
