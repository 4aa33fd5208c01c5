"""`xorbench.check(...)` for Python and for the fixture of the pytest plugin."""

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
    """The first difference of a training.

    Attributes:
        step: the step, counted from 0; None if the difference has no step.
        component: the differing component, such as `batch`, `parameters` or `optimizer state`.
        details: evidence by name, such as the operator and its line, elements and generators.
    """

    step: int | None
    component: str
    details: dict[str, str]


StepRatio = Ratio
"""The time of a step of the command divided by that of `against`; lower is faster."""


@dataclass(frozen=True, slots=True, repr=False)
class CheckResult(PythonResult):
    """The result of a check. It is true if the check passed; `str` is the complete answer.

    Attributes:
        outcome: `pass`, `fail` or `inconclusive`.
        exit_code: the exit code of `xorbench check`: 0, 1 or 3.
        sentence: the answer in one sentence.
        first_divergence: the first difference; None if nothing differs.
        meaning: the meaning of the difference; may be empty.
        hint: a hint; may be empty.
        speed: with `against`, the ratio of step times; None if they were not measured.
        notes: further notes.
        text: the answer and its evidence, as lines.
        folder: the folder of the records of the runs.
        report: the path of the HTML report.
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
    """The keyword arguments of `check`, for functions that forward them."""

    resume: Trainable | None
    kill_after: int | Sequence[int] | None
    kill_in_save: bool
    against: Trainable | None
    up_to_rounding: bool
    skip: int | None
    threshold: float | str | None
    bits_only: bool
    speed_only: bool
    turns: str | None
    pages: str | None
    ranks: Sequence[int] | None
    loss: str | None
    processes: int | None
    steps: int | None
    timeout: float
    folder: str | os.PathLike[str] | None
    in_place: bool
    exclude: Sequence[str]
    link: Sequence[str]
    max_copy: int | str
    max_record: int | str
    files: bool
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
    kill_in_save: bool = False,
    against: Trainable | None = None,
    up_to_rounding: bool = False,
    skip: int | None = None,
    threshold: float | str | None = None,
    bits_only: bool = False,
    speed_only: bool = False,
    turns: str | None = None,
    pages: str | None = None,
    ranks: Sequence[int] | None = None,
    loss: str | None = None,
    processes: int | None = None,
    steps: int | None = None,
    timeout: float = 3600.0,
    folder: str | os.PathLike[str] | None = None,
    in_place: bool = False,
    exclude: Sequence[str] = (),
    link: Sequence[str] = (),
    max_copy: int | str = "1GB",
    max_record: int | str = "1GB",
    files: bool = False,
    with_source: bool = False,
    anonymous: bool = False,
    out: str | os.PathLike[str] = "results",
    name: str | None = None,
    note: Note = lambda _line: None,
) -> CheckResult:
    """Run a training in fresh processes: is it bitwise identical? If not, where does it differ?

    Args:
        command: a command, as a string or a list of words; or a function without arguments, which
            a fresh interpreter imports and calls; or its name, `package.module:function`.
        resume: the command that resumes a killed training; needs `kill_after` or `kill_in_save`.
        kill_after: the numbers of steps to kill after, one trial each.
        kill_in_save: kill while a checkpoint is saved: in a file, between files, before a rename.
        against: a command or function to compare with: identical bits, same speed?
        up_to_rounding: with `against`, allow differences that rounding explains; no speed.
        skip: with `against`, the number of first steps that are not timed; 3 by default.
        threshold: with `against`, fail if slower by more than this, such as `0.05` or `5%`, the
            default.
        bits_only: with `against`, do not compare the speed.
        speed_only: with `against`, do not compare the bits.
        turns: with `against`, `off` times one after the other, not turn by turn.
        pages: with `against`, `default` times without huge pages for malloc.
        ranks: the numbers of ranks to compare, such as `[1, 2]`; the command contains `{ranks}`.
        loss: with `ranks`, `mean` or `sum`: how the losses of the ranks make the whole.
        processes: the number of runs; 2 by default, with `against` 5 each.
        steps: end each run after this number of optimizer steps.
        timeout: the time limit of one run (s).
        folder: the working folder; by default the current folder. Each run gets a fresh copy.
        in_place: run in the folder itself.
        exclude: do not copy paths that match these patterns.
        link: symlink these paths instead of copying them, for data that is only read.
        max_copy: the largest folder to copy, in bytes or as text such as `500MB`.
        max_record: the largest record, in bytes or as text such as `500MB`.
        files: fail if the runs save different files, although the training is identical.
        with_source: show source lines with their numbers.
        anonymous: write no host, user, absolute path or device UUID.
        out: the folder for records and reports, which are written to its subfolder `checks`.
        name: the name used in the result folder.
        note: called with each line of progress.

    Returns:
        The result, which is true if the check passed. A difference does not raise an exception.

    Raises:
        BadOption: an argument is invalid; nothing was compared.
        BadFile: a file or folder cannot be read.
    """
    options = dict(locals())
    try:
        return _check(options, note)
    except XorbenchError as error:
        raise _in_python(error) from None


def _check(options: Mapping[str, Any], note: Note) -> CheckResult:
    """Read the arguments by the table of options, run, and answer."""
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
    """The error with the Python names of options, and the hint as a note."""
    shown = type(error)(python_text(error.message), python_text(error.hint))
    if shown.hint:
        shown.add_note(f"hint: {shown.hint}")
    return shown


# Commands


def _is_name(value: Trainable) -> TypeGuard[str]:
    """Whether the value is the name of a function, `package.module:function`."""
    return isinstance(value, str) and parse.FUNCTION.fullmatch(value) is not None


def _words(argument: str, value: Trainable, folder: Path) -> tuple[str, ...]:
    """The words of the command."""
    if callable(value):
        return _function_words(argument, value, folder)
    text = value if isinstance(value, str) else shlex.join(os.fspath(word) for word in value)
    words = parse.command(argument, text, "such as 'python train.py'")
    if len(words) == 1 and parse.FUNCTION.fullmatch(words[0]):
        return _call_words(*words[0].split(":"))
    return (_from_environment(words[0]), *words[1:])


def _from_environment(command: str) -> str:
    """The command in the environment of this interpreter, else the command in PATH."""
    if os.sep in command:
        return command
    return shutil.which(command, path=str(Path(sys.executable).parent)) or command


def _function_words(argument: str, function: Callable[[], object], folder: Path) -> tuple[str, ...]:
    """The command that imports and calls a function; raises `BadOption` if that is impossible."""
    name = getattr(function, "__qualname__", "")
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    shown = f"{argument}: {name or function!r}"
    if not name or module is None or _attribute(module, name) is not function:
        raise BadOption(
            f"{shown} cannot be imported", "use a function at the top level of a module"
        )
    if module.__name__ == "__main__":
        raise BadOption(f"{shown} is defined in the running script", "move it to a module")
    if inspect.iscoroutinefunction(function):
        raise BadOption(f"{shown} is a coroutine function", "use a synchronous function")
    required = _required_argument(function)
    if required:
        raise BadOption(f"{shown} needs the argument {required!r}", "use one without arguments")
    root, parent = _imported_from(module), folder.resolve()
    if root is None or not root.is_relative_to(parent):
        return _call_words(module.__name__, name, outside=str(root or ""))
    return _call_words(module.__name__, name, within=str(root.relative_to(parent)))


def _attribute(module: ModuleType, name: str) -> object:
    value: object = module
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def _required_argument(function: Callable[[], object]) -> str:
    """The first argument without a default; else empty."""
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is parameter.empty and parameter.kind not in free:
            return parameter.name
    return ""


def _imported_from(module: ModuleType) -> Path | None:
    """The folder in the module path from which a module was imported; None if unknown."""
    file = Path(module.__file__ or "").resolve()
    parts = module.__name__.split(".")
    names = file.parent if file.stem == "__init__" else file.with_suffix("")
    return names.parents[len(parts) - 1] if names.parts[-len(parts) :] == tuple(parts) else None


def _call_words(module: str, function: str, within: str = "", outside: str = "") -> tuple[str, ...]:
    """The words that call a function in a fresh interpreter.

    Its module is searched in the folder `within` of the working folder, in the working folder, and
    last in the folder `outside`.
    """
    first = [within, "."] if within not in ("", ".") else ["."]
    paths = f"[*map(os.path.abspath, {first!r}), *sys.path{f', {outside!r}' if outside else ''}]"
    script = f"import os, sys; sys.path[:] = {paths}; import {module}; {module}.{function}()"
    return (sys.executable, "-c", script)
