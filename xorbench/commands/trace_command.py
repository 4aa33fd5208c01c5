"""`trace` of a training of the user's own: the record alone, of a run as it is without this."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xorbench.commands.check import here_or_refused, require_command
from xorbench.commands.interrupt import terminable
from xorbench.commands.run_maker import require_called
from xorbench.errors import CHECK_FAILED, INCONCLUSIVE, PASSED, BadFile, why
from xorbench.judge.command_runs import cut_short, step_count
from xorbench.measure.command_run import CommandRun, called, execute
from xorbench.measure.temporary_folder import temporary_folder
from xorbench.observe import trace as traces
from xorbench.observe.cleaning import clean
from xorbench.observe.ended import KILLED
from xorbench.observe.redaction import names_here


@dataclass(frozen=True, slots=True)
class TraceCommandRequest:
    """A trace as the command line asks for it; `words` is a command, `target` a function."""

    words: tuple[str, ...]
    target: str | None
    output: Path
    steps: int | None = None
    detail: tuple[int, int] | None = None
    max_record: int = 10**9
    with_source: bool = False
    anonymous: bool = False
    timeout_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class TraceCommandOutcome:
    """The files and how many steps each has, the exit code, and what should be known."""

    files: list[tuple[Path, int]]
    exit_code: int
    said: str


def trace_command(request: TraceCommandRequest) -> TraceCommandOutcome:
    """Run the command here, once, and write its trace; one file for each process that trains."""
    require_command("trace", request.words, request.target)
    words = request.words if request.target is None else called(request.target)
    run = CommandRun(words, here_or_refused(), None, request.timeout_s)
    options = {
        "detail": request.detail,
        "stop_after": request.steps,
        "max_bytes": request.max_record,
        "with_source": request.with_source,
    }
    with terminable(), temporary_folder() as folder:
        ended = execute(run, 1, run.folder, folder / "run", options, through=True)
        require_called("trace", run, ended)
        clean(ended.folder, words, os.environ, names_here() if request.anonymous else None)
        lost, found = ended.lost_records, ended.traces
        found.sort(key=lambda trace: (-step_count(trace), traces.rank_of(trace)))
        files: list[tuple[Path, int]] = []
        for number, trace in enumerate(found):
            path = request.output if not number else _numbered(request.output, number, trace)
            if path in [one for one, _ in files]:  # a rank that was started again
                path = path.with_name(f"{path.name}.{number}")
            _move(trace.path, path)
            files.append((path, step_count(traces.opened(path))))
    if ended.how == "refused":
        return TraceCommandOutcome(files, CHECK_FAILED, f"the command cannot be run: {ended.why}")
    if ended.how == "ended" and ended.code:
        return TraceCommandOutcome(files, CHECK_FAILED, f"the command failed: {ended.exit_said}")
    if ended.how in KILLED:
        return TraceCommandOutcome(files, INCONCLUSIVE, f"the command {cut_short(ended)}")
    if lost:
        return TraceCommandOutcome(files, INCONCLUSIVE, lost)
    if not any(count for _, count in files):
        return TraceCommandOutcome(files, INCONCLUSIVE, "no step of a training was seen")
    return TraceCommandOutcome(files, PASSED, "")


def _numbered(output: Path, number: int, trace: traces.TraceFile) -> Path:
    """The file of a further process, named for its rank."""
    rank = trace.head.process and trace.head.process.rank
    return output.with_name(f"{output.name}.{f'rank{rank}' if rank else number}")


def _move(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(source, temporary)
        temporary.replace(target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise BadFile(f"{target}: cannot write: {why(error)}") from None
