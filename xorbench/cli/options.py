"""Options that several commands have, and how they are read."""

import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from xorbench.errors import BadOption
from xorbench.options import parse
from xorbench.options.program_options import Option, options_of
from xorbench.xor.matrix.axes import AXES, Axis
from xorbench.xor.matrix.faults import read_fault
from xorbench.xor.matrix.recipe import Recipe, RecipeOption

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


def reads(read: Callable[[str, Any], Any], *, lines: bool = False) -> Callable[..., Any]:
    """A callback of click: `read(option, text)` makes the value of an option that has one.

    `lines` joins the texts of an option that was given several times.
    """

    def callback(_context: click.Context, option: click.Parameter, value: Any) -> Any:
        if value is None or (lines and not value):
            return None
        return read(option.opts[0], "\n".join(value) if lines else value)

    return callback


def read_text(_flag: str, text: str) -> str:
    """The text itself."""
    return text


def read_path(_flag: str, text: str) -> Path:
    """A path, which need not be there."""
    return Path(text)


def option(
    flag: str,
    metavar: str,
    about: str,
    read: Callable[..., Any] = read_text,
    default: str | None = None,
    **limits: Any,
) -> Decorator[Any]:
    """An option whose text `read(flag, text, **limits)` makes a value; help shows its default."""
    about = f"{about}." if default is None else f"{about} [{default}]."
    read = reads(partial(read, **limits))
    return click.option(flag, metavar=metavar, help=about, default=default, callback=read)


def writable(option: str, text: str) -> Path:
    """A file that can be written; raises `BadOption`, before any work, where it cannot."""
    path = Path(text)
    try:
        if path.is_dir() or not path.parent.is_dir():
            raise BadOption(f"{option}: cannot write {text!r}", "give a file in a folder that is")
    except (OSError, ValueError) as error:
        raise BadOption(f"{option}: {ascii(text)[:60]}: {error.args[-1]}") from None
    return path


def _faults(_option: str, texts: Sequence[str]) -> Sequence[str]:
    """The texts, each of which names a fault; raises `BadOption`."""
    for text in texts:
        read_fault(text)
    return texts


read_answer_timeout: Final = partial(parse.positive, high=86_400.0)
OUT: Final = option("--out", "DIR", "Folder of results", parse.folder, "results")
JUNIT: Final = click.option(
    "--junit", metavar="FILE", help="Each verdict as a test case, for a CI."
)
MARKDOWN: Final = click.option(
    "--markdown", metavar="FILE", help="The report as Markdown, besides."
)
JSON: Final = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
VERBOSE: Final = click.option("--verbose", is_flag=True, help="Print every table, however long.")
ANONYMOUS: Final = click.option(
    "--anonymous", is_flag=True, help="No host name, absolute path or UUID in the files."
)


def together(options: Iterable[Decorator[Any]]) -> Decorator[Any]:
    """Several options as one decorator, in their order."""
    decorators = [*options]

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


outputs: Final = together([JUNIT, MARKDOWN, JSON])


def named(kind: str) -> Decorator[Any]:
    """The option --name of a `kind` of result."""
    return option("--name", "NAME", f"A name to find {kind} by", parse.name)


def answered_within(default: str = "120", awaited: str = "one answer") -> Decorator[Any]:
    """The option --timeout: the seconds to wait for an answer of a process."""
    return option("--timeout", "S", f"Seconds to wait for {awaited}", read_answer_timeout, default)


def with_faults(flag: str = "--inject") -> Decorator[Any]:
    """A hidden option that injects faults, by their texts."""
    return click.option(flag, multiple=True, hidden=True, callback=reads(_faults))


class WithCommand(click.Command):
    """A command that takes another command behind `--`, untouched."""

    KEY = "xorbench.command"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set aside what stands behind `--`."""
        if "--" in args:
            index = args.index("--")
            ctx.meta[self.KEY] = tuple(args[index + 1 :])
            args = args[:index]
        return super().parse_args(ctx, args)


def program_options(command: str, *names: str) -> Decorator[Any]:
    """The options of a command that runs a program: these, by default all."""
    rows = options_of(command)
    return together(_program_option(rows[name], command) for name in names or rows)


def _program_option(row: Option, command: str) -> Decorator[Any]:
    shape: dict[str, Any] = {"is_flag": True}
    if not row.kind.is_flag:
        shape = {"metavar": row.metavar, "multiple": row.kind.is_several}
    if row.is_preset:
        shape["default"] = row.default
    read = reads(row.kind.from_text)
    return click.option(row.flag, row.name, help=row.help(command), callback=read, **shape)


def _axis_option(axis: Axis) -> Decorator[Any]:
    shape: dict[str, Any] = {}
    if isinstance(axis.default[0], bool):  # it may be named alone, which means true
        shape = {"is_flag": False, "flag_value": "true"}
    elif axis.several:
        shape = {"multiple": True}
    about, read = f"{axis.about} [{axis.default_text}]", reads(axis.read, lines=axis.several)
    return click.option(axis.option, axis.name, metavar="LIST", help=about, callback=read, **shape)


axis_options: Final = together(map(_axis_option, AXES))


def recipe_options(rows: Sequence[RecipeOption]) -> Decorator[Any]:
    """The options of these fields of the recipe."""
    return together(
        click.option(
            row.option,
            row.field,
            metavar="VALUE",
            help=f"{row.about} [{row.default_text}]",
            callback=reads(row.parse),
        )
        for row in rows
    )


def recipe_of(options: Mapping[str, Any], rows: Sequence[RecipeOption]) -> Recipe:
    """The recipe of the options of these fields."""
    given = {row.field: options[row.field] for row in rows}
    return Recipe(**{field: value for field, value in given.items() if value is not None})


def command_line(anonymous: bool) -> str:
    """The command line as it was typed, without secrets, and without --out if `anonymous`."""
    from xorbench.records.redaction import shown_words

    words = shown_words(sys.argv[1:])
    if anonymous:
        words = [
            "DIR" if before == "--out" else "--out=DIR" if word.startswith("--out=") else word
            for before, word in pairwise(["", *words])
        ]
    return f"python -m xorbench {shlex.join(words)}"


def refuse_given(names: Collection[str], why: str, hint: str = "") -> None:
    """Raise `BadOption` for the first of these parameters that was given on the command line."""
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source == click.core.ParameterSource.COMMANDLINE:
            raise BadOption(f"{parameter.opts[0]}: {why}", hint)


def refuse_options_of_programs(why: str) -> None:
    """Raise `BadOption` where an option was given that this command has for programs alone."""
    rows = options_of(click.get_current_context().info_name or "")
    names = {name for name, row in rows.items() if not row.is_for_cases}
    refuse_given(names | {"junit", "markdown"}, why)


def answer_timeout_of(options: Mapping[str, Any]) -> float:
    """Seconds to wait for an answer, of a command that also runs programs; raises `BadOption`."""
    seconds = options["timeout"]
    return 120.0 if seconds is None else read_answer_timeout("--timeout", str(seconds))


def refuse_rest(names: Collection[str], option: str) -> None:
    """Raise `BadOption` for any option but these, and for anything to run."""
    context = click.get_current_context()
    parameters = (each for each in context.command.params if isinstance(each, click.Option))
    excluded = {each.name or "" for each in parameters}.difference(names)
    refuse_given(excluded, f"cannot be given with {option}")
    if words := (*context.params.get("target", ()), *command_words()):
        raise BadOption(f"{option}: cannot be given with a command, here {words[0]!r}")


def refuse_beside_resume() -> None:
    """A resumed run is the run that was: only where it is and how it prints may change."""
    refuse_rest({"resume", "out", "as_json", "junit", "markdown", "verbose"}, "--resume")


def command_words() -> tuple[str, ...]:
    """What stands behind `--` on the command line."""
    words: tuple[str, ...] = click.get_current_context().meta.get(WithCommand.KEY, ())
    return words


def is_program(target: Sequence[str]) -> bool:
    """Whether the command line names a command, or a function, of the user's."""
    return bool(command_words()) or (
        len(target) == 1 and parse.FUNCTION.fullmatch(target[0]) is not None
    )


def program_of(target: tuple[str, ...]) -> dict[str, Any]:
    """The command, or the function before `--`; raises `BadOption` where there is not one."""
    name, words = click.get_current_context().info_name, command_words()
    hint = f"put -- before the command: {name} -- python train.py"
    if len(target) > 1 or (target and words):
        raise BadOption(f"{name}: {target[0]!r} is in front of the command", hint)
    if not target and not words:
        raise BadOption(f"{name}: no command given", hint)
    return {"words": words, "target": target[0] if target else None}
