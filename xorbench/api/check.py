"""`xorbench.check(...)` for Python; the fixture of the pytest plugin calls the same."""

import inspect
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, TypedDict, TypeGuard

from xorbench.errors import EXIT_WORDS, BadOption, XorbenchError
from xorbench.options import parse
from xorbench.options.option_text import python_text
from xorbench.options.program_options import PYTHON_OPTIONS, complete
from xorbench.programs import check_questions, outputs
from xorbench.programs.experiment import ExperimentOutcome, ask
from xorbench.programs.report import conclusion_text
from xorbench.programs.request import here_or_refused
from xorbench.programs.run_maker import Note
from xorbench.records.redaction import local_sharing
from xorbench.report.ci_outputs import Exports
from xorbench.report.results import PythonResult
from xorbench.stats.ratio import Ratio
from xorbench.verdicts import Outcome

Trainable: TypeAlias = str | Sequence[str] | Callable[[], object]


@dataclass(frozen=True, slots=True)
class DivergedFirst:
    """Where a training is not the same for the first time.

    Attributes:
        step: the step, from 0; None where the whole program differs.
        component: what differs in it, such as `batch`, `parameters` or `optimizer state`.
        details: what is known of it, by name: the operator and its line, the elements, generators.
    """

    step: int | None
    component: str
    details: dict[str, str]


StepRatio = Ratio
"""The time of a step of the command, divided by one of `against`; lower is faster."""


@dataclass(frozen=True, slots=True, repr=False)
class CheckResult(PythonResult):
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

    def _brief(self) -> tuple[str, list[str]]:
        lines = [f"{EXIT_WORDS[self.exit_code]}: {self.sentence}"]
        lines += [self.meaning] if self.meaning else []
        lines += [f"hint: {self.hint}"] if self.hint else []
        return self.folder.name, [*lines, f"report: {self.report}"]


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
    options = dict(locals())
    try:
        return _checked(options, note)
    except XorbenchError as error:
        raise _in_python(error) from None


def _checked(options: Mapping[str, Any], note: Note) -> CheckResult:
    """Read the arguments as the table of options has them, run, and answer."""
    values = {name: row.python_value(options[name]) for name, row in PYTHON_OPTIONS.items()}
    folder = values["folder"] = values["folder"] or here_or_refused()
    command, against, resume = options["command"], values["against"], values["resume"]
    target = command if _is_name(command) else None
    words = () if target else _words("command", command, folder)
    if against is not None:
        values["against"] = (against,) if _is_name(against) else _words("against", against, folder)
    if resume is not None:
        values["resume"] = _words("resume", resume, folder)
    question = check_questions.question(
        complete(PYTHON_OPTIONS, values), words=words, target=target
    )
    return _result(ask(question, note), anonymous=options["anonymous"])


def _result(outcome: ExperimentOutcome, *, anonymous: bool) -> CheckResult:
    shown = outputs.write(outcome, Exports(), as_json=False, anonymous=anonymous)
    answer = replace(outcome.conclusion, hint=python_text(outcome.conclusion.hint))
    if anonymous:
        answer = local_sharing(anonymous=True).value(answer)
    first = None
    if answer.outcome == "fail" and answer.component:
        first = DivergedFirst(answer.step, answer.component, dict(answer.details))
    return CheckResult(
        outcome=answer.outcome,
        exit_code=outcome.exit_code,
        sentence=answer.sentence,
        first_divergence=first,
        meaning=answer.meaning,
        hint=answer.hint,
        speed=_speed(outcome),
        notes=answer.notes,
        text=conclusion_text(answer),
        folder=outcome.folder,
        report=shown.report,
    )


def _speed(outcome: ExperimentOutcome) -> StepRatio | None:
    speed = outcome.judgement.speed
    ratio = speed.ratio if speed is not None else None
    return None if ratio is None or ratio.low is None or ratio.high is None else ratio


def _in_python(error: XorbenchError) -> XorbenchError:
    """The same error, with options as Python names them, and the hint where Python shows it."""
    shown = type(error)(python_text(error.message), python_text(error.hint))
    if shown.hint:
        shown.add_note(f"hint: {shown.hint}")
    return shown


# What is run


def _is_name(value: Trainable) -> TypeGuard[str]:
    """Whether it is the name of a function, `package.module:function`."""
    return isinstance(value, str) and parse.FUNCTION.fullmatch(value) is not None


def _words(argument: str, value: Trainable, folder: Path) -> tuple[str, ...]:
    """The words of the command."""
    if callable(value):
        return _calling(argument, value, folder)
    text = value if isinstance(value, str) else shlex.join(os.fspath(word) for word in value)
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
    shown = f"{argument}: {name or function!r}"
    if not name or module is None or _attribute(module, name) is not function:
        raise BadOption(f"{shown} cannot be imported", "give a function at the top of a module")
    if module.__name__ == "__main__":
        raise BadOption(f"{shown} is in the script that runs", "put it into a module")
    if inspect.iscoroutinefunction(function):
        raise BadOption(f"{shown} is a coroutine function", "give one that is called and returns")
    needed = _needed(function)
    if needed:
        raise BadOption(f"{shown} needs the argument {needed!r}", "give one without arguments")
    root, parent = _imported_from(module), folder.resolve()
    if root is None or not root.is_relative_to(parent):
        return _called(module.__name__, name, beside=str(root or ""))
    return _called(module.__name__, name, within=str(root.relative_to(parent)))


def _attribute(module: ModuleType, name: str) -> object:
    value: object = module
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


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
