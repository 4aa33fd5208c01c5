"""`check --resume`: does a training that is killed and resumed equal an uninterrupted one?"""

import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from xorbench.commands import check as checks
from xorbench.commands.check import CheckOutcome, CheckRequest, Note
from xorbench.commands.processes import terminable
from xorbench.errors import BadOption
from xorbench.judge import resume as judge
from xorbench.judge.check import CheckRuns
from xorbench.judge.first_difference import compare
from xorbench.judge.half_precision import rounded
from xorbench.judge.resume_answer import KillTrial, conclude
from xorbench.measure.command_run import CommandRun, Ended, execute, read_ended, working_copy
from xorbench.observe import trace as traces
from xorbench.observe.trace import TraceFile, TraceStep

VALUES_BYTES: Final = 1 << 30
LOGS: Final = (".log", ".txt", ".csv", ".out", ".err", ".pyc")

Execute = Callable[..., Ended]


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """A check across kills: the command, how it is resumed, and when it is killed."""

    check: CheckRequest
    resume: tuple[str, ...]
    kill_after: tuple[int, ...]


def plan(request: ResumeRequest, run: CommandRun) -> list[str]:
    """What will happen, in lines."""
    first, *rest = checks.plan(request.check, run)
    del first
    kills = ", ".join(map(str, request.kill_after))
    return [
        f"runs once to the end: {request.check.command}",
        f"then, for each of {kills}: runs it again, kills it when that many steps are complete, and"
        f" resumes it: {shlex.join(request.resume)}",
        *(line for line in rest if not line.startswith("if they differ")),
    ]


def check(request: ResumeRequest, note: Note) -> CheckOutcome:
    """Run, kill, resume and compare. Raises `BadOption`."""
    run = checks.prepared(request.check)
    checks.require_command("--resume", request.resume, None)
    for line in plan(request, run):
        note(line)
    folder = checks.new_folder(request.check)
    try:
        ended, observed, trials = _run(request, run, folder, note)
    except BadOption:
        shutil.rmtree(folder)
        raise
    return _outcome(folder, _title(request.check.command, request.resume), ended, observed, trials)


def from_folder(folder: Path, saved: dict[str, Any]) -> CheckOutcome:
    """Judge the records of such a check again."""
    ended = [read_ended(folder / "run-1")]
    observed = _whole(tuple(saved["words"]), ended)
    trials = []
    for number in saved["kill_after"] if observed.trouble is None else ():
        paths = (folder / f"killed-after-{number}", folder / f"resumed-after-{number}")
        if all((path / "ended.json").exists() for path in paths):
            pair = [read_ended(path) for path in paths]
            ended += pair
            files = saved["saved"].get(str(number))
            trials.append(_trial(number, ended[0], pair[0], pair[1], files))
    title = _title(saved["command"], saved["resume"])
    return _outcome(folder, title, ended, observed, trials)


def _title(command: str, resume: tuple[str, ...]) -> str:
    return f"{command}, resumed by {shlex.join(resume)}"


def _outcome(
    folder: Path, title: str, ended: list[Ended], observed: CheckRuns, trials: list[KillTrial]
) -> CheckOutcome:
    outcome = checks.concluded(folder, title, ended, observed)
    if observed.trouble is not None:
        return outcome
    answer = replace(conclude(trials), notes=tuple(observed.notes))
    return replace(outcome, conclusion=answer)


def _whole(words: tuple[str, ...], ended: list[Ended]) -> CheckRuns:
    """What the first run alone says."""
    observed = CheckRuns(runs=1)
    observed.trouble = checks.trouble(words, ended)
    if observed.trouble is None and ended[0].how == "timeout":
        said = f"run 1 did not end within {ended[0].wall_s:.0f} s and was killed"
        observed.trouble = ("inconclusive", said, "give it longer with --timeout")
    observed.notes = checks.notes_of(ended)
    return observed


def _run(
    request: ResumeRequest, run: CommandRun, folder: Path, note: Note
) -> tuple[list[Ended], CheckRuns, list[KillTrial]]:
    with terminable(), working_copy(run) as fresh:
        saved: dict[str, list[str]] = {}

        def save() -> None:
            more = {"resume": list(request.resume), "kill_after": list(request.kill_after)}
            checks.save_request(folder, request.check, {**more, "saved": saved})

        def done(number: int, name: str, of: CommandRun, place: Path, **options: Any) -> Ended:
            asked = {"max_bytes": request.check.max_record, "state": True, **options}
            one = execute(of, number, place, folder / name, asked)
            note(f"{name.replace('-', ' ')}: {checks.told(one)}")
            return one

        save()
        steps = request.check.steps
        ended = [done(1, "run-1", run, fresh(), stop_after=steps)]
        observed = _whole(request.check.words, ended)
        if observed.trouble is not None:
            return ended, observed, []
        _require_within(request, ended[0])
        trials = []
        for number in request.kill_after:
            place = fresh()
            before = _files(place)
            killed = done(2, f"killed-after-{number}", run, place, stop_after=number)
            saved[str(number)] = sorted(k for k, v in _files(place).items() if before.get(k) != v)
            save()
            resumed = done(
                3,
                f"resumed-after-{number}",
                replace(run, words=request.resume),
                place,
                stop_after=steps,
                keep=(0,),
                values_bytes=VALUES_BYTES,
            )
            ended += [killed, resumed]
            trial = _trial(number, ended[0], killed, resumed, saved[str(number)])
            if trial.resumed and trial.resumed.by not in ("", "weights"):
                step = trial.resumed.step or 0
                whole = done(
                    1, f"step-{step}-for-{number}", run, fresh(), stop_after=step + 1, keep=(step,),
                    values_bytes=VALUES_BYTES,
                )  # fmt: skip
                trial = replace(trial, rounded=_rounded(whole, step, resumed))
            trials.append(trial)
        observed.notes = checks.notes_of(ended)
    return ended, observed, trials


def _require_within(request: ResumeRequest, whole: Ended) -> None:
    steps = max(checks.step_count(trace) for trace in traces.recorded(whole.records))
    for number in request.kill_after:
        if number >= steps:
            raise BadOption(
                f"--kill-after: {number}: the command makes {steps} steps",
                f"the last step that it can be killed before is {steps - 1}",
            )


def _files(place: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file that may be a checkpoint, by its path in the folder."""
    found = {}
    for path in place.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix not in LOGS:
            status = path.stat()
            found[str(path.relative_to(place))] = (status.st_size, status.st_mtime_ns)
    return found


def _trial(
    number: int, whole: Ended, killed: Ended, resumed: Ended, saved: list[str] | None
) -> KillTrial:
    """What one kill came to: the first process whose resumed record is not as it must be."""
    trial = KillTrial(number, saved=tuple(saved or ()))
    if killed.how != "stopped":
        how = f"it ended by itself before: {checks.told(killed)}"
        return replace(trial, trouble=("inconclusive", f"run 2 could not be killed: {how}", ""))
    lines = resumed.last_lines()
    if resumed.how == "ended" and resumed.code != 0:
        return replace(trial, trouble=judge_failed(resumed, lines))
    if resumed.how == "timeout":
        said = f"the resumed run did not end within {resumed.wall_s:.0f} s and was killed"
        return replace(trial, trouble=("inconclusive", said, "give it longer with --timeout"))
    ranks = zip(*(_by_rank(one) for one in (whole, killed, resumed)), strict=False)
    compared = [_compared(number, *three) for three in ranks]
    if not compared or any(_by_rank(one) == [] for one in (killed, resumed)):
        said = "the resumed run made no step: it may have nothing left to do"
        return replace(trial, trouble=("inconclusive", said, "kill it earlier"))
    for found in compared:
        if isinstance(found, str):
            return replace(
                trial, trouble=("inconclusive", found, "run check without --resume first")
            )
    results = [found for found in compared if not isinstance(found, str)]
    first = next((one for one in results if one.component), results[0])
    return replace(trial, resumed=first)


def judge_failed(resumed: Ended, lines: list[str]) -> tuple[Any, str, str]:
    """Why the resume command failed, as far as what it wrote tells."""
    last = lines[-1].strip()[:200] if lines else "it wrote nothing"
    how = (
        f"exit code {resumed.code}" if (resumed.code or 0) > 0 else f"signal {-(resumed.code or 0)}"
    )
    if any(judge.CUT_SHORT.search(line) for line in lines):
        said = f"the checkpoint cannot be read: the kill may have cut it short: {last}"
        return ("fail", said, "write it to another file, and rename that when it is whole")
    return (
        "fail",
        f"the resume command failed: {how}: {last}",
        f"what it wrote is in {resumed.folder}",
    )


def _by_rank(one: Ended) -> list[TraceFile]:
    """The processes that made steps, by rank, then by their start."""
    found = [trace for trace in traces.recorded(one.records) if any(_steps(trace))]
    return sorted(found, key=lambda trace: (trace.head.process and trace.head.process.rank) or "")


def _steps(trace: TraceFile) -> Iterator[TraceStep]:
    return (line for line in trace.lines() if isinstance(line, TraceStep))


def _compared(
    number: int, whole: TraceFile, killed: TraceFile, resumed: TraceFile
) -> judge.Resumed | str:
    """Compare one process; a text says that the training itself is not reproducible."""
    first = compare(islice(_steps(whole), number), _steps(killed)).first
    if first is not None:
        return (
            "not reproducible: the run that was killed differs from the uninterrupted one before"
            f" the kill, first in step {first.step}"
        )
    records = [judge.read(trace.lines()) for trace in (whole, killed, resumed)]
    return judge.compare(records[0], records[1], records[2], number)


def _rounded(whole: Ended, step: int, resumed: Ended) -> str:
    """Whether the weights that it starts with are those of the step in half precision."""
    a, b = _by_rank(whole)[:1], _by_rank(resumed)[:1]
    if not a or not b:
        return ""
    return rounded(_kept(a[0], step), _kept(b[0], 0))


def _kept(trace: TraceFile, step: int) -> dict[str, tuple[str, bytes]]:
    """Type and bytes of the parameters at the start of a step, by identity."""
    found = {}
    for line in _steps(trace):
        for event in line.events if line.step == step else ():
            data = trace.values(event) if event.kind == "parameter" else None
            if data is not None:
                found[event.identity] = (event.more.dtype, data)
    return found
