"""`trace` of a user's training: the record of one run in place."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xorbench.errors import CHECK_FAILED, INCONCLUSIVE, PASSED, BadFile, why
from xorbench.programs.command_run import CommandRun, called
from xorbench.programs.command_runs import cut_short
from xorbench.programs.questions.rounding import NOISY_RUNS
from xorbench.programs.request import here_or_refused, require_command
from xorbench.programs.run_maker import RunMaker
from xorbench.records.ended import KILLED, Ended
from xorbench.records.redaction import local_names
from xorbench.records.trace import TraceFile, rank_of
from xorbench.runtime.interrupt import terminable
from xorbench.runtime.temporary_folder import temporary_folder


@dataclass(frozen=True, slots=True)
class TraceCommandRequest:
    """The options of a trace; `words` is a command, `target` a function."""

    words: tuple[str, ...]
    target: str | None
    output: Path
    steps: int | None = None
    detail: tuple[int, int] | None = None
    up_to_rounding: bool = False
    max_record: int = 10**9
    with_source: bool = False
    anonymous: bool = False
    timeout_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class TraceCommandOutcome:
    """The files with their numbers of steps, the exit code, and a message."""

    files: list[tuple[Path, int]]
    exit_code: int
    message: str


def trace_command(request: TraceCommandRequest) -> TraceCommandOutcome:
    """Run the command in the current folder and write one trace per process that trains.

    With `up_to_rounding` it runs again with noise; `noisy` names these traces.
    """
    require_command("trace", request.words, request.target)
    words = request.words if request.target is None else called(request.target)
    run = CommandRun(words, here_or_refused(), None, request.timeout_s)
    options = {
        "detail": request.detail,
        "stop_after": request.steps,
        "max_bytes": request.max_record,
        "with_source": request.with_source,
        "sketches": request.up_to_rounding,
    }
    names = local_names() if request.anonymous else None
    with terminable(), temporary_folder() as folder:
        maker = RunMaker("trace", options, folder, lambda: run.folder, lambda _line: None, names)
        ended = maker.run(run, 1, "run", "run 1", through=True)
        problem = _problem(ended)
        files = _write(ended.traces, request.output)
        for number in range(1, 1 + (NOISY_RUNS if request.up_to_rounding and not problem else 0)):
            more = maker.run(run, 1, f"run-{number}", f"run {number}", through=True, noise=number)
            problem = problem or _problem(more)
            files += _write(more.traces, noisy(request.output, number))
    if problem is None and not any(count for _, count in files):
        problem = INCONCLUSIVE, "no training step was recorded"
    return TraceCommandOutcome(files, *(problem or (PASSED, "")))


def noisy(trace: Path, number: int) -> Path:
    """The file of a run with noise, next to the trace of the run without."""
    return trace.with_name(f"{trace.name}.noise{number}")


def _problem(run: Ended) -> tuple[int, str] | None:
    """The exit code and message of a run that failed or was killed."""
    if run.how == "refused":
        return CHECK_FAILED, f"the command cannot be run: {run.why}"
    if run.how == "ended" and run.code:
        return CHECK_FAILED, f"the command failed: {run.exit_text}"
    if run.how in KILLED:
        return INCONCLUSIVE, f"the command {cut_short(run)}"
    return (INCONCLUSIVE, run.lost_records) if run.lost_records else None


def _write(traces: list[TraceFile], output: Path) -> list[tuple[Path, int]]:
    """Write the traces, the longest first, and count their steps."""
    files: dict[Path, int] = {}
    ordered = sorted(traces, key=lambda trace: (-trace.step_count, rank_of(trace)))
    for number, trace in enumerate(ordered):
        path = output if not number else _numbered(output, number, trace)
        if path in files:  # a rank that was restarted
            path = path.with_name(f"{path.name}.{number}")
        _copy(trace.path, path)
        files[path] = trace.step_count
    return list(files.items())


def _numbered(output: Path, number: int, trace: TraceFile) -> Path:
    """The file of a further process, named by its rank."""
    rank = trace.head.process and trace.head.process.rank
    return output.with_name(f"{output.name}.{f'rank{rank}' if rank else number}")


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(source, temporary)
        temporary.replace(target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise BadFile(f"{target}: cannot write: {why(error)}") from None
