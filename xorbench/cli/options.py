"""Options that several commands have, and how they are read."""

import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import click

from xorbench.errors import BadOption
from xorbench.plan import parse
from xorbench.plan.axes import AXES
from xorbench.plan.faults import read_fault
from xorbench.plan.recipe import RECIPE_OPTIONS, Recipe, RecipeOption, read_recipe

Command = TypeVar("Command", bound=Callable[..., Any])


ROOT = click.option("--out", default="results", metavar="DIR", help="Folder of results [results].")


JUNIT = click.option("--junit", metavar="FILE", help="Each verdict as a test case, for a CI.")


MARKDOWN = click.option("--markdown", metavar="FILE", help="The report as Markdown, besides.")


ANONYMOUS = click.option(
    "--anonymous", is_flag=True, help="No host name, absolute path or UUID in the files."
)
VERBOSE = click.option("--verbose", is_flag=True, help="Print every table, however long.")
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


class WithCommand(click.Command):
    """A command that takes another command behind `--`, untouched."""

    KEY = "xorbench.command"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set aside what stands behind `--`."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[self.KEY] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)


def plan_options(command: Command) -> Command:
    """The options of the axes and of the recipe, made from their tables."""
    command = recipe_options(RECIPE_OPTIONS)(command)
    for axis in reversed(AXES):
        about = f"{axis.about} [{axis.default_text}]"
        # a setting that is true or false may be named alone, which means true
        alone: dict[str, Any] = {}
        if isinstance(axis.default[0], bool):
            alone = {"is_flag": False, "flag_value": "true"}
        elif axis.several:
            alone = {"multiple": True}
        option = click.option(axis.option, axis.name, metavar="LIST", help=about, **alone)
        command = option(command)
    return command


def recipe_options(rows: Sequence[RecipeOption]) -> Callable[[Command], Command]:
    """The options of these fields of the recipe."""

    def decorate(command: Command) -> Command:
        for row in reversed(rows):
            about = f"{row.about} [{row.default_text}]"
            command = click.option(row.option, row.field, metavar="VALUE", help=about)(command)
        return command

    return decorate


def against_of(text: str) -> tuple[str, ...]:
    """The words of the command of --against; raises `BadOption`."""
    return parse.command("--against", text, "--against 'python old.py' -- python new.py")


def timeout_of(options: dict[str, Any]) -> float:
    """Seconds to wait for one answer; raises `BadOption`."""
    return parse.positive("--timeout", options["timeout"], 86_400.0)


def run_timeout_of(options: dict[str, Any]) -> float:
    """Seconds that a run of the user's command may take; raises `BadOption`."""
    return parse.positive("--timeout", options["timeout"], parse.LONGEST_RUN_S)


def require_faults(texts: Sequence[str]) -> None:
    """Raise `BadOption` for a text that names no fault."""
    for text in texts:
        read_fault(text)


def joined(text: str | tuple[str, ...]) -> str:
    """The texts of an option that may be given several times, as lines."""
    return text if isinstance(text, str) else "\n".join(text)


def recipe_of(options: dict[str, Any], rows: Sequence[RecipeOption]) -> Recipe:
    """The recipe that the options of these fields make; raises `BadOption`."""
    return read_recipe({r.field: options[r.field] for r in rows if options[r.field] is not None})


def command_line(anonymous: bool) -> str:
    """The command line as it was typed, without secrets, and without --out if `anonymous`."""
    from xorbench.observe.redaction import shown_words

    words = shown_words(sys.argv[1:])
    if anonymous:
        words = [
            "DIR" if before == "--out" else "--out=DIR" if word.startswith("--out=") else word
            for before, word in pairwise(["", *words])
        ]
    return f"python -m xorbench {shlex.join(words)}"


def root_of(text: str) -> Path:
    """The folder of all runs; raises `BadOption` for a text that can be no folder."""
    if not text.strip():
        raise BadOption("--out: empty", "give a folder, for example --out results")
    try:
        text.encode()
        Path(text).exists()
    except (OSError, ValueError) as error:  # too long, or not to be written down
        raise BadOption(f"--out: {ascii(text)[:60]}: {error.args[-1]}") from None
    return Path(text)


def writable(option: str, text: str) -> Path:
    """A file that can be written; raises `BadOption`, before any work, where it cannot."""
    path = Path(text)
    try:
        if path.is_dir() or not path.parent.is_dir():
            raise BadOption(f"{option}: cannot write {text!r}", "give a file in a folder that is")
    except (OSError, ValueError) as error:
        raise BadOption(f"{option}: {ascii(text)[:60]}: {error.args[-1]}") from None
    return path


def name_of(text: str | None) -> str | None:
    """The value of `--name`; raises `BadOption` for one that cannot be a name."""
    return None if text is None else parse.name("--name", text)


def refuse_given(names: Collection[str], why: str, hint: str = "") -> None:
    """Raise `BadOption` for the first of these parameters that was given on the command line."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and given == click.core.ParameterSource.COMMANDLINE:
            raise BadOption(f"{parameter.opts[0]}: {why}", hint)


def refuse_others(names: Collection[str], option: str) -> None:
    """Raise `BadOption` for any option but these, and for anything to run."""
    context = click.get_current_context()
    every = {one.name or "" for one in context.command.params if isinstance(one, click.Option)}
    refuse_given(every.difference(names), f"cannot be given with {option}")
    if words := (*context.params.get("target", ()), *command_words()):
        raise BadOption(f"{option}: cannot be given with a command, here {words[0]!r}")


def refuse_beside_resume() -> None:
    """A resumed run is the run that was: only where it is and how it prints may be said anew."""
    refuse_others({"resume", "out", "as_json", "junit", "markdown", "verbose"}, "--resume")


def given_or(given: str | None, default: str) -> str:
    """What was given, an empty text too, which is no value; else the default."""
    return default if given is None else given


def command_words() -> tuple[str, ...]:
    """What stands behind `--` on the command line."""
    words: tuple[str, ...] = click.get_current_context().meta.get(WithCommand.KEY, ())
    return words


def target_of(words: tuple[str, ...], command: tuple[str, ...]) -> str | None:
    """The word before `--`; raises `BadOption` where there is not either one or a command."""
    name = click.get_current_context().info_name
    hint = f"put -- before the command: {name} -- python train.py"
    if len(words) > 1 or (words and command):
        raise BadOption(f"{name}: {words[0]!r} is in front of the command", hint)
    if not words and not command:
        raise BadOption(f"{name}: no command given", hint)
    return words[0] if words else None
