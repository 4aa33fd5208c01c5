"""`check`: is a training of the user's own the same, bit for bit, when it is run again?"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from xorbench.commands.interrupt import terminable
from xorbench.commands.run_maker import Note, RunMaker
from xorbench.errors import BadFile, BadOption, why
from xorbench.judge.against import AgainstAnswer
from xorbench.judge.check import CheckRuns, Closer, Conclusion, RunPair, conclude, verdicts
from xorbench.judge.command_runs import looked_closer, observe, traces_of, trouble
from xorbench.judge.run_processes import unmet
from xorbench.judge.verdicts import OUTCOME_CODES, Verdict, counted
from xorbench.measure import working_folder
from xorbench.measure.command_run import CommandRun, called
from xorbench.measure.command_run import working_copy as copied
from xorbench.observe.cleaning import clean
from xorbench.observe.ended import Ended, read_ended, read_runs
from xorbench.observe.files import decoded, is_file, read_bytes, write_whole
from xorbench.observe.folders import new_folder
from xorbench.observe.redaction import names_here
from xorbench.observe.sharing import shown_command, shown_words, texts
from xorbench.observe.trace import TraceFile
from xorbench.plan.option_text import option_text
from xorbench.plan.parse import FUNCTION

SCHEMA_VERSION: Final = 1
VALUES_BYTES: Final = 1 << 30
CLOSER_PAIRS: Final = 3  # pairs that are run again in detail until one diverges there
WIDER: Final = (1, 4, 16)  # how far before and after the step each of them looks


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
    anonymous: bool = False
    root: Path = Path("results")
    name: str | None = None
    folder: Path | None = None  # the working folder; None for the current one

    @property
    def command(self) -> str:
        """The command as one would type it, without secrets."""
        return self.target or shown_command(self.words)


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """Where the files are, the runs, the answer with its verdicts, and the exit code."""

    id: str
    folder: Path
    command: str
    runs: list[Ended]
    conclusion: Conclusion
    machine: dict[str, Any]
    verdicts: list[Verdict]
    against: AgainstAnswer | None = None
    anonymous: bool = False

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
        raise BadOption(
            option_text("{name}: there is no command {word!r}", name=name, word=words[0])
        )
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
        make = maker("check", request, folder, fresh, note).run
        for number in range(1, request.processes + 1):
            ended.append(make(run, number, f"run-{number}", f"run {number}"))
            if trouble(request.words, ended) is not None:
                break
        observed = observe(request.words, ended)

        def again(number: int, name: str, **options: Any) -> Ended:
            said = name.replace("-", " ").replace("/", ", run ")
            return make(run, number, name, said, **options)

        first = observed.diverged
        if first is not None and first.resumed_from is None:
            observed.closer = closer_look(first, again)
    return ended, observed


def maker(
    name: str, request: CheckRequest, folder: Path, fresh: Callable[[], Path], note: Note
) -> RunMaker:
    """Makes runs as the request asks for them."""
    options = {
        "max_bytes": request.max_record,
        "stop_after": request.steps,
        "with_source": request.with_source,
    }
    names = names_here() if request.anonymous else None
    return RunMaker(name, options, folder, fresh, note, names)


def judged_again(folder: Path, saved: dict[str, Any]) -> CheckOutcome:
    """Judge the records of a check of one command again."""
    request, ended = saved_request(saved), read_runs(folder, "run-")
    observed = observe(request.words, ended)
    if observed.diverged is not None:
        observed.closer = closer_again(folder, observed.diverged)
    return concluded(folder, request.command, ended, observed)


def concluded(folder: Path, command: str, ended: list[Ended], observed: CheckRuns) -> CheckOutcome:
    """The outcome of what was observed."""
    found = conclude(observed)
    said, machine = verdicts(observed, found), machine_of(ended[0])
    return CheckOutcome(folder.name, folder, command, ended, found, machine, said)


def machine_of(one: Ended) -> dict[str, Any]:
    """What the first record of a run says of the machine; empty where there is none."""
    for trace in one.traces[:1]:
        return {**trace.head.machine, **trace.head.environment}
    return {}


# A closer look


def closer_look(
    pair: RunPair,
    again: Callable[..., Ended],
    read: Callable[[Ended], list[TraceFile]] = traces_of,
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


def closer_again(
    folder: Path, pair: RunPair, read: Callable[[Ended], list[TraceFile]] = traces_of
) -> list[Closer]:
    """The pairs in detail that a folder holds, compared again."""
    places = [folder / f"closer-{number}" for number in range(1, CLOSER_PAIRS + 1)]
    return [
        looked_closer(pair, read_ended(place / "1"), read_ended(place / "2"), read)
        for place in places
        if (place / "2" / "ended.json").exists()
    ]


# Files


@contextmanager
def records_folder(request: CheckRequest) -> Iterator[Path]:
    """A new folder for the records, taken away again where bad input leaves it without a run."""
    above = (request.root / "checks", request.root, *request.root.parents)
    made = [path for path in above if not path.exists()]
    try:
        folder = new_folder(request.root / "checks", request.name)
    except OSError as error:
        message = "{out}: cannot write to {root}: {why}"
        raise BadOption(option_text(message, root=request.root, why=why(error))) from None
    try:
        yield folder
    except (BadOption, BadFile) as error:
        if isinstance(error, BadFile) and has_runs(folder):
            raise
        shutil.rmtree(folder)
        with suppress(OSError):  # another check has its folder there by now
            for path in made:
                path.rmdir()
        raise


def has_runs(folder: Path) -> bool:
    """Whether a run has ended there."""
    return any(folder.glob("*/ended.json"))


def save_request(folder: Path, request: CheckRequest, more: dict[str, Any] | None = None) -> None:
    """Write down what is asked for, without secrets, so that it can be judged again."""
    saved = {
        "schema_version": SCHEMA_VERSION,
        "kind": "check",
        "command": request.command,
        "words": shown_words(request.words),
        "steps": request.steps,
        "anonymous": request.anonymous,
        **(more or {}),
    }
    _write_saved(folder, saved)


def _write_saved(folder: Path, saved: dict[str, Any]) -> None:
    if saved["anonymous"]:
        saved = {**texts(saved, names_here().masked), "kind": saved["kind"]}
    write_whole(folder / "check.json", msgspec.json.encode(saved))


def make_anonymous(folder: Path) -> None:
    """Remove names and absolute paths from the files of a check that has been made."""
    _write_saved(folder, {**read_saved(folder), "anonymous": True})
    for path in folder.rglob("ended.json"):
        clean(path.parent, (), os.environ, names_here())


def saved_request(saved: dict[str, Any]) -> CheckRequest:
    """What of a request the judgement depends on."""
    words = tuple(saved["words"])
    return CheckRequest(
        words,
        target=None if words else saved["command"],
        steps=saved["steps"],
        anonymous=saved.get("anonymous", False),
    )


def read_saved(folder: Path) -> dict[str, Any]:
    """What `save_request` wrote; raises `BadFile` where it is none."""
    path = folder / "check.json"
    if not is_file(path):
        raise BadFile(f"{str(path)[:200]}: is not there", "--from takes the folder of a check")
    saved = decoded(read_bytes(path), dict[str, Any], path)
    if saved.get("schema_version") != SCHEMA_VERSION or saved.get("kind") != "check":
        raise BadFile(f"{path}: is no check that this xorbench reads")
    return saved
