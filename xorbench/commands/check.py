"""`check`: is a training of the user's own the same, bit for bit, when it is run again?"""

import os
import re
import secrets
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from xorbench.commands.processes import terminable
from xorbench.errors import BadFile, BadOption
from xorbench.judge.against import AgainstAnswer
from xorbench.judge.check import CheckRuns, Closer, Conclusion, RunPair, conclude, counted
from xorbench.judge.elements import Difference, between
from xorbench.judge.first_difference import (
    Compared,
    FirstDifference,
    compare,
    later_step_with,
    weights,
)
from xorbench.judge.run_processes import (
    ON_THIS_MACHINE,
    PORT_TAKEN,
    STANDALONE,
    ProcessPair,
    first_failure,
    missing_ranks,
    paired,
    said_missing,
    unmet,
)
from xorbench.judge.verdicts import OUTCOME_CODES, Outcome
from xorbench.measure import working_folder
from xorbench.measure.command_run import (
    KILLED,
    LAST_LINES,
    CommandRun,
    Ended,
    called,
    execute,
    read_ended,
)
from xorbench.measure.command_run import working_copy as copied
from xorbench.observe import trace as traces
from xorbench.observe.files import decoded, is_file, read_bytes, write_whole
from xorbench.observe.trace import TraceFile
from xorbench.plan.parse import FUNCTION

SCHEMA_VERSION: Final = 1
VALUES_BYTES: Final = 1 << 30
MANY_LINES: Final = 1_000  # of what a command wrote: each rank writes the end of its own
CLOSER_PAIRS: Final = 3  # pairs that are run again in detail until one diverges there
WIDER: Final = (1, 4, 16)  # how far before and after the step each of them looks
# What keeps the recorder out: it comes in through PYTHONPATH and Python's `site`.
CLOSED: Final = (
    (re.compile(r"(^|/)python[\d.]*\s+(-\w+\s+)*-\w*[IES]\w*\b"), "python -I, -E or -S"),
    (re.compile(r"(^|/)env\s+(-i\b|-\s|--ignore-environment)"), "env -i"),
    (re.compile(r"(^|/)(docker|podman|apptainer|singularity)\s"), "a container"),
    (re.compile(r"(^|/)(ssh|srun|kubectl|sky|ray)\s"), "a launcher for other machines"),
    (re.compile(r"(^|/)(sudo|su)\s"), "sudo"),
)

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """A check as the command line asks for it; `words` is a command, `target` a function."""

    words: tuple[str, ...] = ()
    target: str | None = None
    processes: int = 2
    steps: int | None = None
    in_place: bool = False
    exclude: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    max_copy: int = 10**9
    max_record: int = 10**9
    timeout_s: float = 3600.0
    with_source: bool = False
    root: Path = Path("results")
    name: str | None = None
    folder: Path | None = None  # the working folder; None for the current one

    @property
    def command(self) -> str:
        """What is run, as one would type it."""
        return self.target or shlex.join(self.words)


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """Where the files are, what was observed, the answer, and the exit code."""

    id: str
    folder: Path
    command: str
    runs: list[Ended]
    observed: CheckRuns
    conclusion: Conclusion
    machine: dict[str, Any]
    against: AgainstAnswer | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of the answer."""
        return OUTCOME_CODES[self.conclusion.outcome]


def prepared(request: CheckRequest) -> CommandRun:
    """The run as it will be made; raises `BadOption` for what cannot be."""
    target = request.target
    here = request.folder or here_or_refused()
    require_command("check", request.words, target, here)
    copy = None
    if not request.in_place:
        copy = working_folder.planned(
            here, request.exclude, request.link, request.root / "checks", request.max_copy
        )
    words = request.words if target is None else called(target)
    return CommandRun(words, here, copy, request.timeout_s)


def here_or_refused() -> Path:
    """The working folder; raises `BadOption` where somebody has removed it."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise BadOption("the working folder is no longer there") from None


def require_command(
    name: str, words: Sequence[str], target: str | None, folder: Path | None = None
) -> None:
    """Raise `BadOption` for a command that is not there, and for what names no function.

    A command with a slash is looked for in `folder`, an absolute path, or in the current one.
    """
    if target is None and not _is_there(words[0], folder):
        raise BadOption(f"{name}: there is no command {words[0]!r}")
    if target is not None and not FUNCTION.fullmatch(target):
        raise BadOption(
            f"{name}: {target!r} names no function",
            f"{name} -- python train.py, or {name} package.module:function",
        )


def _is_there(command: str, folder: Path | None) -> bool:
    path = str(folder / command) if folder is not None and os.sep in command else command
    return shutil.which(path) is not None


def plan(request: CheckRequest, run: CommandRun) -> list[str]:
    """What will happen, in lines."""
    times = f"{request.processes} times" if request.processes > 2 else "twice"
    return [
        f"runs {times}, one after the other: {request.command}",
        *place_lines(request, run),
        *filter(None, [unmet(run.words)]),
        "if they differ, up to three more pairs of runs, in detail",
    ]


def place_lines(request: CheckRequest, run: CommandRun) -> list[str]:
    """Where each run works, and what it gets of the folder."""
    lines = []
    if run.copy is None:
        lines.append(f"each in {run.folder} itself")
    else:
        size = run.copy.size_bytes / 1e6
        files = counted(len(run.copy.files), "file")
        lines.append(f"each in a fresh copy of {run.folder}: {files}, {size:.3g} MB")
        lines += [f"linked, not copied: {path} -> {to}" for path, to in run.copy.linked.items()]
        lines += [
            f"left out of the copy: {path}"
            for path in run.copy.left_out
            if "__pycache__" not in path
        ]
    if request.steps is not None:
        lines.append(f"each ends after {request.steps} steps")
    return lines


def check(request: CheckRequest, note: Note) -> CheckOutcome:
    """Run the command, compare, and look closer where it differs. Raises `BadOption`."""
    run = prepared(request)
    for line in plan(request, run):
        note(line)
    with records_folder(request) as folder:
        ended, observed = _run(request, run, folder, note)
    return concluded(folder, request.command, ended, observed)


def _run(
    request: CheckRequest, run: CommandRun, folder: Path, note: Note
) -> tuple[list[Ended], CheckRuns]:
    ended: list[Ended] = []
    with terminable(), copied(run) as fresh:
        save_request(folder, request)

        def again(number: int, name: str, **options: Any) -> Ended:
            asked = {
                "max_bytes": request.max_record,
                "stop_after": request.steps,
                "with_source": request.with_source,
                **options,
            }
            one = execute(run, number, fresh(), folder / name, asked)
            note(f"{name.replace('-', ' ').replace('/', ', run ')}: {told(one)}")
            return one

        for number in range(1, request.processes + 1):
            ended.append(again(number, f"run-{number}"))
            _refuse_target(request, ended[-1])
            if trouble(request.words, ended) is not None:
                break
        observed = observe(request.words, ended)
        first = observed.diverged
        if first is not None and first.resumed_from is None:
            observed.closer = closer_look(first, again)
    return ended, observed


def from_folder(folder: Path) -> CheckOutcome:
    """Judge the records of a check again, without running anything; raises `BadFile`."""
    saved = _saved(folder)
    if not _has_runs(folder):
        raise BadFile(f"{str(folder)[:200]}: holds no run: the check was stopped before its first")
    if "resume" in saved:
        from xorbench.commands import resume

        return resume.from_folder(folder, saved)
    if "against" in saved:
        from xorbench.commands import against

        return against.from_folder(folder, saved)
    finished = [path.parent for path in folder.glob("run-[0-9]*/ended.json")]
    ended = [read_ended(path) for path in sorted(finished, key=lambda path: int(path.name[4:]))]
    observed = observe(tuple(saved["words"]), ended)
    first = observed.diverged
    closer = [folder / f"closer-{i}" for i in range(1, CLOSER_PAIRS + 1)]
    if first is not None:
        observed.closer = [
            looked_closer(first, read_ended(path / "1"), read_ended(path / "2"))
            for path in closer
            if (path / "2" / "ended.json").exists()
        ]
    return concluded(folder, saved["command"], ended, observed)


def concluded(folder: Path, command: str, ended: list[Ended], observed: CheckRuns) -> CheckOutcome:
    """The outcome of what was observed."""
    machine = machine_of(ended[0])
    return CheckOutcome(folder.name, folder, command, ended, observed, conclude(observed), machine)


def machine_of(one: Ended) -> dict[str, Any]:
    """What the first record of a run says of the machine; empty where there is none."""
    for trace in traces.recorded(one.records)[:1]:
        return {**trace.head.machine, **trace.head.environment}
    return {}


def observe(words: Sequence[str], ended: list[Ended]) -> CheckRuns:
    """Compare every run with the first, process by process."""
    observed = CheckRuns(runs=len(ended))
    observed.trouble = trouble(words, ended)
    observed.notes = notes_of(ended)
    if observed.trouble is not None:
        return observed
    runs = {one.number: traces.recorded(one.records) for one in ended}
    missing = {run: ranks for run, found in runs.items() if (ranks := missing_ranks(found))}
    first = ended[0].number
    for other in ended[1:]:
        killed = (ended[0].how in KILLED, other.how in KILLED)
        for pair in paired(runs[first], runs[other.number]):
            process, number = pair.process, other.number
            if pair.a is not None and pair.b is not None:
                observed.pairs.append(_pair(pair, number, pair.a, pair.b, killed))
                continue
            lacking, having = (first, number) if pair.a is None else (number, first)
            if process.rank not in missing.get(lacking, []):
                observed.unpaired.append(
                    f"run {having} trains in {process}, run {lacking} does not"
                )
    if missing and observed.diverged is None and not observed.unpaired:
        observed.trouble = (
            "inconclusive",
            f"{said_missing(missing)}; what the others recorded is the same",
            ON_THIS_MACHINE,
        )
    cut = [one for one in ended if one.how in KILLED]
    if cut and observed.diverged is None and not observed.unpaired:
        observed.trouble = (
            "inconclusive",
            f"run {cut[0].number} {cut_short(cut[0])}; the steps until then are the same",
            "end the runs with --steps, or give them longer with --timeout",
        )
    return observed


def cut_short(one: Ended) -> str:
    """How a run that was killed ended, in words."""
    if one.how == "timeout":
        return f"did not end within {one.wall_s:.0f} s and was killed"
    return f"was killed after {one.wall_s:.0f} s, with this program"


def _pair(
    of: ProcessPair, number: int, a: TraceFile, b: TraceFile, killed: tuple[bool, bool]
) -> RunPair:
    """Compare a process of two runs, of which either may have been killed."""
    compared = compare(a.lines(), b.lines(), a.head.generators)
    first = compared.first
    if first is not None and (
        (of.restarted and _at_end(first)) or (first.how == "steps" and killed[_shorter(first)])
    ):
        # where the launcher ended it, or we did, is nothing that the program decides
        compared = Compared(compared.coverage, None)
    pair = RunPair(str(of.process), compared, f"run {number}")
    first = compared.first
    if first is not None and first.step == 0 and first.event.kind == "parameter":
        begins = next(iter(b.lines()), None)
        if begins is not None:
            pair.resumed_from = later_step_with(a.lines(), weights(begins))
    return pair


def _shorter(first: FirstDifference) -> int:
    """Which side has fewer steps: 0 or 1."""
    a, b = first.steps
    return int(b < a)


def _at_end(first: FirstDifference) -> bool:
    """Whether the difference is after the last step that both sides have completed."""
    return first.how == "steps" or first.at_end


# Why there is nothing to compare


def trouble(words: Sequence[str], ended: list[Ended]) -> tuple[Outcome, str, str] | None:
    """Why there is nothing to compare: what it comes to, a sentence, a hint."""
    for one in ended:
        if one.how == "refused":
            return (
                "fail",
                f"the command cannot be run: {(words or ('python',))[0]}: {one.why}",
                "",
            )
        if one.how == "ended" and one.code != 0:
            return _command_failed(one, ended)
    for one in ended:
        if one.how == "timeout" and not traces.recorded(one.records):
            said = f"run {one.number} did not end within {one.wall_s:.0f} s, and made no step"
            return ("inconclusive", said, "give it longer with --timeout")
    if not any(_stepped(one) for one in ended):
        said, hint = _no_step(words, ended[-1])
        return ("inconclusive", said, hint)
    return None


def _command_failed(one: Ended, ended: list[Ended]) -> tuple[Outcome, str, str]:
    lines = one.last_lines(MANY_LINES)
    last = lines[-1].strip() if lines else "it wrote nothing"
    how = f"exit code {one.code}" if (one.code or 0) > 0 else f"killed by signal {-(one.code or 0)}"
    before = f", run {one.number - 1} did not" if len(ended) > 1 else ""
    said = (first_failure(lines) or last)[:200]
    return ("fail", f"the command failed in run {one.number}{before}: {how}: {said}", _help(one))


def _help(one: Ended) -> str:
    """What to do about a command that failed."""
    lines = one.last_lines(MANY_LINES)
    if any("EOFError" in line for line in lines[-LAST_LINES:]):
        return "standard input is empty in a check: give what it asks for as arguments"
    if any(PORT_TAKEN.search(line) for line in lines):
        return f"another launch holds the port: {STANDALONE}"
    return f"what it wrote is in {one.folder}"


def _stepped(one: Ended) -> bool:
    """Whether any process made a step; a record is read only as far as its first."""
    return any(
        isinstance(line, traces.TraceStep)
        for trace in traces.recorded(one.records)
        for line in trace.lines()
    )


def step_count(trace: TraceFile) -> int:
    """How many steps a trace has."""
    return sum(isinstance(line, traces.TraceStep) for line in trace.lines())


SEEN: Final = "what is seen is step() of an optimizer of torch.optim, or of a subclass of one"


def _no_step(words: Sequence[str], one: Ended) -> tuple[str, str]:
    """Why no step was seen, as far as can be told."""
    said = "no step of a training was seen"
    present = traces.presence(one.records)
    events = {line.event for line in present}
    failed = [line.why for line in present if line.event == "failed"]
    if failed:
        return f"{said}: the recorder does not work with this PyTorch: {failed[0]}", ""
    pending = [
        line
        for trace in traces.recorded(one.records)
        for line in trace.lines()
        if isinstance(line, traces.TraceEnd)
    ]
    if any(not end.complete for end in pending):
        return (
            f"{said}: there were backward passes, but no optimizer of torch.optim has stepped",
            "a step that is compiled, and an optimizer that is none of torch.optim, is not seen",
        )
    if "torch" in events:
        return f"{said}: PyTorch was imported, but no optimizer of torch.optim has stepped", SEEN
    closed = [name for pattern, name in CLOSED if pattern.search(shlex.join(words))]
    if closed:
        return f"{said}: the recorder cannot get in through {closed[0]}", "run the training itself"
    if "python" in events:
        return f"{said}: no process has imported PyTorch", SEEN
    return (
        f"{said}: no Python interpreter has loaded the recorder",
        "it is found through PYTHONPATH; python -I, -E, -S, env -i and containers shut it out",
    )


def notes_of(ended: list[Ended]) -> list[str]:
    """What should be known of the runs besides the answer."""
    notes = [
        f"run {one.number} left processes behind, which were killed: {', '.join(one.left)}"
        for one in ended
        if one.left
    ]
    outside = dict.fromkeys(
        line.path
        for one in ended
        for line in traces.presence(one.records)
        if line.event == "outside"
        and not line.path.startswith(_CACHES)
        and Path(line.path).is_file()
    )
    if outside:
        shown = ", ".join(list(outside)[:3])
        more = f" and {len(outside) - 3} more" if len(outside) > 3 else ""
        notes.append(f"files were written outside the working folder, for all runs: {shown}{more}")
    return notes


_CACHES: Final = (str(Path.home() / ".cache"), str(Path.home() / ".triton"))


def _refuse_target(request: CheckRequest, one: Ended) -> None:
    """A function that cannot be called is bad input, said by the interpreter that tried."""
    path = one.records / "target.txt"
    if request.target is not None and path.exists():
        why = path.read_text()
        raise BadOption(f"check: {request.target}: {why}", "check package.module:function")


def told(one: Ended) -> str:
    """How a run ended, in a few words."""
    ends = {
        "ended": f"exit code {one.code}",
        "stopped": "stopped after its steps",
        "timeout": "out of time, killed",
        "refused": one.why,
        "abandoned": "killed",
    }
    counts = [step_count(trace) for trace in traces.recorded(one.records)]
    training = sum(count > 0 for count in counts)
    of = f" of {training} processes" if training > 1 else ""
    return f"{counted(sum(counts), 'step')}{of}, {one.wall_s:.1f} s, {ends[one.how]}"


# A closer look


def records_of(one: Ended) -> list[TraceFile]:
    """The records of a run."""
    return traces.recorded(one.records)


def closer_look(
    pair: RunPair,
    again: Callable[..., Ended],
    read: Callable[[Ended], list[TraceFile]] = records_of,
) -> list[Closer]:
    """Run pairs in detail around the step, until one diverges there."""
    first = pair.compared.first
    assert first is not None
    if first.how != "digest":
        return []
    found: list[Closer] = []
    for number in range(1, CLOSER_PAIRS + 1):
        # what moves from run to run is looked for in more and more steps
        detail = (max(0, first.step - WIDER[number - 1]), first.step + WIDER[number - 1] - 1)
        options = {"detail": detail, "values_bytes": VALUES_BYTES, "stop_after": detail[1] + 1}
        one, other = (again(side, f"closer-{number}/{side}", **options) for side in (1, 2))
        found.append(looked_closer(pair, one, other, read))
        step = found[-1].first.step if found[-1].first else None
        if step is not None and detail[0] <= step <= detail[1]:
            break
    return found


def looked_closer(
    pair: RunPair,
    one: Ended,
    other: Ended,
    read: Callable[[Ended], list[TraceFile]] = records_of,
) -> Closer:
    """Where two runs in detail differ first, in the process that the pair is of."""
    for of in paired(read(one), read(other)):
        a, b = of.a, of.b
        if str(of.process) == pair.process and a is not None and b is not None:
            first = compare(a.lines(), b.lines(), a.head.generators).first
            return Closer(first, None if first is None else _element(first, a, b))
    return Closer(None)


def _element(first: FirstDifference, a: TraceFile, b: TraceFile) -> Difference | None:
    one, other = first.a, first.b
    if one is None or other is None:
        return None
    return between(one.more, other.more, a.values(one), b.values(other))


# Files


def new_folder(request: CheckRequest) -> Path:
    """Make the folder of a check; raises `BadOption` where it cannot be made."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    name = request.name or secrets.token_hex(3)
    folder = request.root / "checks" / f"{stamp}-{name}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        why = str(error.strerror).lower()
        raise BadOption(f"--out: cannot write to {request.root}: {why}") from None
    return folder


@contextmanager
def records_folder(request: CheckRequest) -> Iterator[Path]:
    """A new folder for the records, taken away again where bad input leaves it without a run."""
    above = (request.root / "checks", request.root, *request.root.parents)
    made = [path for path in above if not path.exists()]
    folder = new_folder(request)
    try:
        yield folder
    except (BadOption, BadFile) as error:
        if isinstance(error, BadFile) and _has_runs(folder):
            raise
        shutil.rmtree(folder)
        with suppress(OSError):  # another check has its folder there by now
            for path in made:
                path.rmdir()
        raise


def _has_runs(folder: Path) -> bool:
    return any(folder.glob("*/ended.json"))


def save_request(folder: Path, request: CheckRequest, more: dict[str, Any] | None = None) -> None:
    """Write down what is asked for, so that `from_folder` can judge it again."""
    saved = {
        "schema_version": SCHEMA_VERSION,
        "kind": "check",
        "command": request.command,
        "words": list(request.words),
        "steps": request.steps,
        **(more or {}),
    }
    write_whole(folder / "check.json", msgspec.json.encode(saved))


def _saved(folder: Path) -> dict[str, Any]:
    path = folder / "check.json"
    if not is_file(path):
        raise BadFile(f"{str(path)[:200]}: is not there", "--from takes the folder of a check")
    saved = decoded(read_bytes(path), dict[str, Any], path)
    if saved.get("schema_version") != SCHEMA_VERSION or saved.get("kind") != "check":
        raise BadFile(f"{path}: is no check that this xorbench reads")
    return saved
