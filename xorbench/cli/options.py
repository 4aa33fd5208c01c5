"""Options that several commands share, and functions that read them."""

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
from xorbench.options.program_options import NO_NAMES, Option, options_of
from xorbench.xor.matrix.axes import AXES, Axis
from xorbench.xor.matrix.faults import read_fault
from xorbench.xor.matrix.recipe import Recipe, RecipeOption

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


def reads(read: Callable[[str, Any], Any], *, lines: bool = False) -> Callable[..., Any]:
    """Make a callback of click that converts a given value by `read(option, text)`.

    With `lines`, the texts of a repeated option are joined as lines.
    """

    def callback(_context: click.Context, option: click.Parameter, value: Any) -> Any:
        if value is None or (lines and not value):
            return None
        return read(option.opts[0], "\n".join(value) if lines else value)

    return callback


def read_text(_flag: str, text: str) -> str:
    """Return the text unchanged."""
    return text


def read_path(_flag: str, text: str) -> Path:
    """Return a path, which need not exist."""
    return Path(text)


def option(
    flag: str,
    metavar: str,
    about: str,
    read: Callable[..., Any] = read_text,
    default: str | None = None,
    **limits: Any,
) -> Decorator[Any]:
    """Make an option that `read(flag, text, **limits)` converts; its help shows the default."""
    about = f"{about}." if default is None else f"{about} [{default}]."
    read = reads(partial(read, **limits))
    return click.option(flag, metavar=metavar, help=about, default=default, callback=read)


def writable(option: str, text: str) -> Path:
    """Return the path of a writable file; raises `BadOption`."""
    path = Path(text)
    try:
        if path.is_dir() or not path.parent.is_dir():
            raise BadOption(f"{option}: cannot write {text!r}", "give a file in an existing folder")
    except (OSError, ValueError) as error:
        raise BadOption(f"{option}: {ascii(text)[:60]}: {error.args[-1]}") from None
    return path


def _faults(_option: str, texts: Sequence[str]) -> Sequence[str]:
    """Return the texts if each names a fault; raises `BadOption`."""
    for text in texts:
        read_fault(text)
    return texts


read_answer_timeout: Final = partial(parse.positive, high=86_400.0)
OUT: Final = option("--out", "DIR", "Store results in DIR", parse.folder, "results")
NAME: Final = option("--name", "NAME", "Name the result NAME", parse.name)
RESUME: Final = option("--resume", "RUN", "Resume the interrupted run RUN")
JUNIT: Final = click.option("--junit", metavar="FILE", help="Write a JUnit XML report to FILE.")
MARKDOWN: Final = click.option(
    "--markdown", metavar="FILE", help="Also write the report as Markdown to FILE."
)
JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
VERBOSE: Final = click.option("--verbose", is_flag=True, help="Print tables of any length.")
ANONYMOUS: Final = click.option("--anonymous", is_flag=True, help=NO_NAMES)
REQUIRE_DEVICES: Final = click.option(
    "--require-devices", is_flag=True, help="Exit with 4 if a device of --devices is missing."
)
MACHINE_THRESHOLD: Final = option(
    "--machine-threshold",
    "X",
    "Fail if the machine is slower by factor X",
    parse.real,
    "1.5",
    low=1,
    high=1e6,
)


def together(options: Iterable[Decorator[Any]]) -> Decorator[Any]:
    """Combine options, in this order, in one decorator."""
    decorators = [*options]

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


outputs: Final = together([JUNIT, MARKDOWN, JSON])


def timeout_option(default: str = "120", awaited: str = "an answer") -> Decorator[Any]:
    """Make the option --timeout: the seconds to wait for an answer of a process."""
    about = f"Wait at most S seconds for {awaited}"
    return option("--timeout", "S", about, read_answer_timeout, default)


def processes_option(default: str, low: int) -> Decorator[Any]:
    """Make the option --processes: the number of processes that train each case."""
    about = "Train each case in N fresh processes"
    return option("--processes", "N", about, parse.integer, default, low=low, high=64)


def batch_sizes_option(default: str) -> Decorator[Any]:
    """Make the option --batch-sizes of a command without the other settings."""
    about = next(axis.about for axis in AXES if axis.name == "batch_size").capitalize()
    return option("--batch-sizes", "LIST", about, parse.integers, default, low=1, high=10_000_000)


def with_faults(flag: str = "--inject") -> Decorator[Any]:
    """Make a hidden option that injects faults."""
    return click.option(flag, multiple=True, hidden=True, callback=reads(_faults))


class WithCommand(click.Command):
    """A command that accepts another command after `--`."""

    KEY = "xorbench.command"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Store the words after `--`, and parse the other arguments."""
        if "--" in args:
            index = args.index("--")
            ctx.meta[self.KEY] = tuple(args[index + 1 :])
            args = args[:index]
        return super().parse_args(ctx, args)


def program_options(command: str, *names: str) -> Decorator[Any]:
    """Make the named options of a command that runs a program, by default all."""
    rows = options_of(command)
    return together(_program_option(rows[name], command) for name in names or rows)


def _program_option(row: Option, command: str) -> Decorator[Any]:
    shape: dict[str, Any] = {"is_flag": True}
    if not row.kind.is_flag:
        shape = {"metavar": row.metavar, "multiple": row.kind.is_several}
    if row.is_preset:
        shape["default"] = row.default
    if row.without_value:
        shape |= {"is_flag": False, "flag_value": row.without_value}
    read = reads(row.kind.from_text)
    return click.option(row.flag, row.name, help=row.help(command), callback=read, **shape)


def _axis_option(axis: Axis) -> Decorator[Any]:
    shape: dict[str, Any] = {}
    if isinstance(axis.default[0], bool):  # the option without a value means true
        shape = {"is_flag": False, "flag_value": "true"}
    elif axis.several:
        shape = {"multiple": True}
    about, read = _about_value(axis), reads(axis.read, lines=axis.several)
    return click.option(axis.option, axis.name, metavar="LIST", help=about, callback=read, **shape)


def _about_value(row: Axis | RecipeOption) -> str:
    about = row.about if "." in row.about.split()[0] else row.about[0].upper() + row.about[1:]
    return f"{about} [{row.default_text}]."


axis_options: Final = together(map(_axis_option, AXES))


def recipe_options(rows: Sequence[RecipeOption]) -> Decorator[Any]:
    """Make the options of these fields of the recipe."""
    return together(
        click.option(
            row.option,
            row.field,
            metavar="VALUE",
            help=_about_value(row),
            callback=reads(row.parse),
        )
        for row in rows
    )


def recipe_of(options: Mapping[str, Any], rows: Sequence[RecipeOption]) -> Recipe:
    """Return the recipe that the options of these fields define."""
    given = {row.field: options[row.field] for row in rows}
    return Recipe(**{field: value for field, value in given.items() if value is not None})


def command_line(anonymous: bool) -> str:
    """Return the typed command line without secrets, and without --out if `anonymous`."""
    from xorbench.records.redaction import shown_words

    words = shown_words(sys.argv[1:])
    if anonymous:
        words = [
            "DIR" if before == "--out" else "--out=DIR" if word.startswith("--out=") else word
            for before, word in pairwise(["", *words])
        ]
    return f"python -m xorbench {shlex.join(words)}"


def refuse_given(names: Collection[str], why: str, hint: str = "") -> None:
    """Raise `BadOption` for the first of these parameters given on the command line."""
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source == click.core.ParameterSource.COMMANDLINE:
            raise BadOption(f"{parameter.opts[0]}: {why}", hint)


def refuse_options_of_programs(why: str) -> None:
    """Raise `BadOption` if an option was given that this command accepts only with a program."""
    rows = options_of(click.get_current_context().info_name or "")
    names = {name for name, row in rows.items() if not row.is_for_cases}
    refuse_given(names | {"junit", "markdown"}, why)


def answer_timeout_of(options: Mapping[str, Any]) -> float:
    """Return the seconds to wait for an answer, of a command that also runs programs."""
    seconds = options["timeout"]
    return 120.0 if seconds is None else read_answer_timeout("--timeout", str(seconds))


def refuse_others(names: Collection[str], option: str) -> None:
    """Raise `BadOption` for any given option except these, and for a command to run."""
    context = click.get_current_context()
    parameters = (param for param in context.command.params if isinstance(param, click.Option))
    excluded = {parameter.name or "" for parameter in parameters}.difference(names)
    refuse_given(excluded, f"cannot be given with {option}")
    if words := (*context.params.get("target", ()), *command_words()):
        raise BadOption(f"{option}: cannot be given with a command: {words[0]!r}")


def refuse_with_resume() -> None:
    """Raise `BadOption` for an option given with --resume that does not concern the output."""
    refuse_others({"resume", "out", "as_json", "junit", "markdown", "verbose"}, "--resume")


def command_words() -> tuple[str, ...]:
    """Return the words after `--` on the command line."""
    words: tuple[str, ...] = click.get_current_context().meta.get(WithCommand.KEY, ())
    return words


def is_program(target: Sequence[str]) -> bool:
    """Whether the command line names a command or function of the user."""
    return bool(command_words()) or (
        len(target) == 1 and parse.FUNCTION.fullmatch(target[0]) is not None
    )


def program_of(target: tuple[str, ...]) -> dict[str, Any]:
    """Return the command, or the function before `--`; raises `BadOption` for none or both."""
    name, words = click.get_current_context().info_name, command_words()
    hint = f"put -- before the command: {name} -- python train.py"
    if len(target) > 1 or (target and words):
        raise BadOption(f"{name}: {target[0]!r} precedes the command", hint)
    if not target and not words:
        raise BadOption(f"{name}: no command given", hint)
    return {"words": words, "target": target[0] if target else None}
