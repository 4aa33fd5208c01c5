"""`xorbench.check(...)` for Python; the fixture of the pytest plugin calls the same."""

import inspect
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias, TypedDict, TypeGuard

from xorbench.commands import against as againsts
from xorbench.commands import check as checks
from xorbench.commands import check_outputs
from xorbench.commands import resume as resumes
from xorbench.commands.check import CheckOutcome, CheckRequest
from xorbench.commands.ci_outputs import Exports
from xorbench.commands.run_maker import Note
from xorbench.errors import EXIT_WORDS, PASSED, BadOption, XorbenchError
from xorbench.judge.ratio import Ratio
from xorbench.judge.verdicts import Outcome
from xorbench.observe.sharing import sharing_here
from xorbench.plan import parse
from xorbench.report.check import conclusion_text
from xorbench.report.results import brief_html, brief_text

Trainable: TypeAlias = str | Sequence[str] | Callable[[], object]
OPTIONS: Final = re.compile(
    r"--(against|bits-only|exclude|in-place|kill-after|link|max-copy|max-record|name|out|"
    r"processes|resume|skip|speed-only|steps|threshold|timeout)(?![\w-])"
)


@dataclass(frozen=True, slots=True)
class DivergedFirst:
    """Where a training is not the same for the first time.

    Attributes:
        step: the step, from 0; None where the whole program differs.
        component: what differs in it, such as `batch`, `parameters` or `optimizer state`.
        facts: what is known of it, by name: the operator and its line, the elements, generators.
    """

    step: int | None
    component: str
    facts: dict[str, str]


StepRatio = Ratio
"""The time of a step of the command, divided by one of `against`; lower is faster."""


@dataclass(frozen=True, slots=True, repr=False)
class CheckResult:
    """What a check found. It is true where it passed; `str` is the whole answer.

    Attributes:
        outcome: `pass`, `fail` or `inconclusive`.
        exit_code: what `xorbench check` would exit with: 0, 1 or 3.
        sentence: the answer in one sentence.
        first_divergence: where it is not the same; None where nothing differs.
        meaning: what that means; may be empty.
        hint: what to do; may be empty.
        speed: with `against`, how the times of a step compare; None where none were taken.
        notes: what should be known besides.
        text: the answer, and what it rests on, in lines.
        folder: where the records of the runs are.
        report: the report, a page.
    """

    outcome: Outcome
    exit_code: int
    sentence: str
    first_divergence: DivergedFirst | None
    meaning: str
    hint: str
    speed: StepRatio | None
    notes: tuple[str, ...]
    text: str
    folder: Path
    report: Path

    def __bool__(self) -> bool:
        return self.exit_code == PASSED

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return brief_text("CheckResult", self.folder.name, self._brief())

    def _repr_html_(self) -> str:
        return brief_html("CheckResult", self.folder.name, self._brief())

    def _brief(self) -> list[str]:
        lines = [f"{EXIT_WORDS[self.exit_code]}: {self.sentence}"]
        lines += [self.meaning] if self.meaning else []
        lines += [f"hint: {self.hint}"] if self.hint else []
        return [*lines, f"report: {self.report}"]


class CheckOptions(TypedDict, total=False):
    """The arguments of `check` besides the command, for what passes them on."""

    resume: Trainable | None
    kill_after: int | Sequence[int] | None
    against: Trainable | None
    skip: int | None
    threshold: float | str | None
    bits_only: bool
    speed_only: bool
    processes: int | None
    steps: int | None
    timeout: float
    folder: str | os.PathLike[str] | None
    in_place: bool
    exclude: Sequence[str]
    link: Sequence[str]
    max_copy: int | str
    max_record: int | str
    with_source: bool
    anonymous: bool
    out: str | os.PathLike[str]
    name: str | None
    note: Note


def check(
    command: Trainable,
    *,
    resume: Trainable | None = None,
    kill_after: int | Sequence[int] | None = None,
    against: Trainable | None = None,
    skip: int | None = None,
    threshold: float | str | None = None,
    bits_only: bool = False,
    speed_only: bool = False,
    processes: int | None = None,
    steps: int | None = None,
    timeout: float = 3600.0,
    folder: str | os.PathLike[str] | None = None,
    in_place: bool = False,
    exclude: Sequence[str] = (),
    link: Sequence[str] = (),
    max_copy: int | str = "1GB",
    max_record: int | str = "1GB",
    with_source: bool = False,
    anonymous: bool = False,
    out: str | os.PathLike[str] = "results",
    name: str | None = None,
    note: Note = lambda _line: None,
) -> CheckResult:
    """Run a training in fresh processes: is it the same, bit for bit? If not, where not?

    Args:
        command: a command, as a text or as a list of words; or a function, which a fresh
            interpreter imports and calls without arguments; or its name, `package.module:function`.
        resume: how a killed training is resumed; needs `kill_after`.
        kill_after: the number of steps after which it is killed; each is a trial of its own.
        against: another command, or function: has it the same bits, and is a step as fast?
        skip: with `against`, how many first steps are not timed; 3 by default.
        threshold: with `against`, slower by more fails, such as `0.05` or `5%`, the default.
        bits_only: with `against`, do not judge the speed.
        speed_only: with `against`, do not judge the bits.
        processes: how many times it is run; 2 by default, with `against` 5 each.
        steps: end each run after so many steps of an optimizer.
        timeout: the seconds that one run may take.
        folder: the working folder; by default the current one. Each run gets a fresh copy of it.
        in_place: run in the folder itself.
        exclude: patterns of what the copies leave out.
        link: paths that the copies link to, to be read.
        max_copy: the largest folder to copy, in bytes or such as `500MB`.
        max_record: the largest record, likewise.
        with_source: show lines of source beside their numbers.
        anonymous: write no host, user, absolute path or device UUID.
        out: records and reports are written to `checks` in this folder.
        name: a name to find the check by.
        note: is called with each line of progress.

    Returns:
        What was found, which is true where it is the same. A difference raises nothing.

    Raises:
        BadOption: an argument cannot be used; nothing was compared.
        BadFile: a file or folder cannot be read.
    """
    try:
        here = _folder(folder)
        target = command if _is_name(command) else None
        request = CheckRequest(
            words=() if target else _words("command", command, here),
            target=target,
            processes=_processes(processes, 2 if against is None else againsts.PROCESSES),
            steps=None if steps is None else _whole("steps", steps, 1, 2**31),
            in_place=in_place,
            exclude=_texts("exclude", exclude),
            link=_texts("link", link),
            max_copy=parse.size("max_copy", str(max_copy)),
            max_record=parse.size("max_record", str(max_record)),
            timeout_s=parse.positive("timeout", str(timeout), parse.LONGEST_RUN_S),
            with_source=with_source,
            anonymous=anonymous,
            root=Path(out).absolute(),
            name=None if name is None else parse.name("name", name),
            folder=here,
        )
        asked = {
            "skip": skip,
            "threshold": threshold,
            "bits_only": bits_only or None,
            "speed_only": speed_only or None,
        }
        if against is not None:
            _refuse("against", {"resume": resume, "kill_after": kill_after})
            return _result(_compared(request, against, asked, note), anonymous=anonymous)
        for option, value in asked.items():
            if value is not None:
                raise BadOption(f"{option}: needs against")
        if resume is None and kill_after is None:
            return _result(checks.check(request, note), anonymous=anonymous)
        given = {"in_place": in_place or None, "processes": processes}
        outcome = _resumed(request, resume, kill_after, given, note)
        return _result(outcome, anonymous=anonymous)
    except XorbenchError as error:
        raise _in_python(error) from None


def _compared(
    request: CheckRequest, against: Trainable, asked: Mapping[str, Any], note: Note
) -> CheckOutcome:
    if asked["bits_only"]:
        _refuse("bits_only", {"speed_only": asked["speed_only"]})
    skip, threshold = asked["skip"], asked["threshold"]
    here = request.folder or Path.cwd()
    made = againsts.AgainstRequest(
        request,
        (against,) if _is_name(against) else _words("against", against, here),
        skip=againsts.SKIP if skip is None else _whole("skip", skip, 0, 1_000_000),
        threshold=parse.share("threshold", "5%" if threshold is None else str(threshold)),
        bits=not asked["speed_only"],
        speed=not asked["bits_only"],
    )
    return againsts.check(made, note)


def _resumed(
    request: CheckRequest,
    resume: Trainable | None,
    kill_after: int | Sequence[int] | None,
    given: Mapping[str, object],
    note: Note,
) -> CheckOutcome:
    if resume is None or kill_after is None:
        has, lacks = ("kill_after", "resume") if resume is None else ("resume", "kill_after")
        raise BadOption(
            f"{has}: needs {lacks}",
            "check('python train.py', resume='python resume.py', kill_after=12)",
        )
    _refuse("resume", given)
    words = _words("resume", resume, request.folder or Path.cwd())
    return resumes.check(resumes.ResumeRequest(request, words, _kills(kill_after)), note)


def _refuse(option: str, beside: Mapping[str, object]) -> None:
    """Raise `BadOption` for what cannot be given beside an option; None is not given."""
    for name, value in beside.items():
        if value is not None:
            raise BadOption(f"{option}: cannot be given with {name}")


def _result(outcome: CheckOutcome, *, anonymous: bool) -> CheckResult:
    shown = check_outputs.write(outcome, Exports(), as_json=False, anonymous=anonymous)
    found = outcome.conclusion
    if anonymous:
        found = sharing_here(anonymous=True).value(found)
    found = replace(found, hint=_options_as_arguments(found.hint))
    first = None
    if found.outcome == "fail" and found.component:
        first = DivergedFirst(found.step, found.component, dict(found.facts))
    return CheckResult(
        outcome=found.outcome,
        exit_code=outcome.exit_code,
        sentence=found.sentence,
        first_divergence=first,
        meaning=found.meaning,
        hint=found.hint,
        speed=_speed(outcome),
        notes=found.notes,
        text=conclusion_text(found),
        folder=outcome.folder,
        report=shown.report,
    )


def _speed(outcome: CheckOutcome) -> StepRatio | None:
    speed = outcome.against.speed if outcome.against is not None else None
    ratio = speed.ratio if speed is not None else None
    return None if ratio is None or ratio.low is None or ratio.high is None else ratio


# Arguments


def _folder(given: str | os.PathLike[str] | None) -> Path:
    if given is None:
        return checks.here_or_refused()
    path = Path(given).absolute()
    if not path.is_dir():
        raise BadOption(f"folder: there is no folder {str(given)!r}")
    return path


def _whole(option: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadOption(f"{option}: must be a whole number, got {value!r}")
    return parse.integer(option, str(value), low, high)


def _processes(given: int | None, default: int) -> int:
    return default if given is None else _whole("processes", given, 2, 64)


def _kills(given: object) -> tuple[int, ...]:
    values = (given,) if isinstance(given, int) else given
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise BadOption(f"kill_after: must be a number of steps, or a list, got {given!r}")
    if not values:
        raise BadOption("kill_after: empty", "give at least one number of steps")
    return parse.distinct("kill_after", [_whole("kill_after", n, 1, 2**31) for n in values])


def _texts(option: str, given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise BadOption(f"{option}: must be a list, got {given!r}", f"{option}=[{given!r}]")
    return tuple(map(str, given))


def _in_python(error: XorbenchError) -> XorbenchError:
    """The same error, with options as Python names them, and the hint where Python shows it."""
    said, hint = map(_options_as_arguments, (error.message, error.hint))
    new = type(error)(said, hint)
    if hint:
        new.add_note(f"hint: {hint}")
    return new


def _options_as_arguments(text: str) -> str:
    return OPTIONS.sub(lambda found: found[1].replace("-", "_"), text)


# What is run


def _is_name(given: Trainable) -> TypeGuard[str]:
    """Whether it is the name of a function, `package.module:function`."""
    return isinstance(given, str) and parse.FUNCTION.fullmatch(given) is not None


def _words(argument: str, given: Trainable, folder: Path) -> tuple[str, ...]:
    """The words of the command."""
    if callable(given):
        return _calling(argument, given, folder)
    text = given if isinstance(given, str) else shlex.join(os.fspath(word) for word in given)
    words = parse.command(argument, text, "such as 'python train.py'")
    if len(words) == 1 and parse.FUNCTION.fullmatch(words[0]):
        return _called(*words[0].split(":"))
    return (_beside_python(words[0]), *words[1:])


def _beside_python(command: str) -> str:
    """The command of the environment that this interpreter is of, else the one of PATH."""
    if os.sep in command:
        return command
    return shutil.which(command, path=str(Path(sys.executable).parent)) or command


def _calling(argument: str, function: Callable[[], object], folder: Path) -> tuple[str, ...]:
    """A command that imports a function and calls it; raises `BadOption` where none can."""
    name = getattr(function, "__qualname__", "")
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    said = f"{argument}: {name or function!r}"
    if not name or module is None or _attribute(module, name) is not function:
        raise BadOption(f"{said} cannot be imported", "give a function at the top of a module")
    if module.__name__ == "__main__":
        raise BadOption(f"{said} is in the script that runs", "put it into a module")
    if inspect.iscoroutinefunction(function):
        raise BadOption(f"{said} is a coroutine function", "give one that is called and returns")
    needed = _needed(function)
    if needed:
        raise BadOption(f"{said} needs the argument {needed!r}", "give one without arguments")
    root, here = _imported_from(module), folder.resolve()
    if root is None or not root.is_relative_to(here):
        return _called(module.__name__, name, beside=str(root or ""))
    return _called(module.__name__, name, within=str(root.relative_to(here)))


def _attribute(module: ModuleType, name: str) -> object:
    found: object = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _needed(function: Callable[[], object]) -> str:
    """The first argument that has no default."""
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is parameter.empty and parameter.kind not in free:
            return parameter.name
    return ""


def _imported_from(module: ModuleType) -> Path | None:
    """The folder in the path of modules that a module was imported from, where it can be told."""
    file = Path(module.__file__ or "").resolve()
    parts = module.__name__.split(".")
    names = file.parent if file.stem == "__init__" else file.with_suffix("")
    return names.parents[len(parts) - 1] if names.parts[-len(parts) :] == tuple(parts) else None


def _called(module: str, function: str, within: str = "", beside: str = "") -> tuple[str, ...]:
    """The words that call a function in a fresh interpreter.

    Its module is looked for in the folder `within` of the working folder, in the working folder,
    and after all others in the folder `beside`.
    """
    first = [within, "."] if within not in ("", ".") else ["."]
    paths = f"[*map(os.path.abspath, {first!r}), *sys.path{f', {beside!r}' if beside else ''}]"
    script = f"import os, sys; sys.path[:] = {paths}; import {module}; {module}.{function}()"
    return (sys.executable, "-c", script)
