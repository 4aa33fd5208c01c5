"""The command line: it parses options, calls a command and prints the result.

Each command has a file, which is imported when the command is used.
"""

import errno
import os
import sys
import traceback
from difflib import get_close_matches
from importlib import import_module
from typing import Final, NoReturn

import click

from xorbench import __version__
from xorbench.cli.groups import CommandGroup
from xorbench.cli.printing import echo
from xorbench.errors import BAD_INPUT, INTERRUPTED, BadFile, BadOption, XorbenchError, why
from xorbench.extras import LIBRARIES, not_installed
from xorbench.runtime.interrupt import handle_signals, ignore_signals

SECTIONS: Final = {
    "Your training": ("check", "explain", "trace", "diff"),
    "This machine": ("canary", "fleet", "env"),
    "The XOR benchmark": (
        *("run", "report", "compare", "baseline", "sweep", "selftest", "list"),
        "pytest-benchmark",
    ),
}
"""The commands, by heading of `xorbench --help`."""
COMMANDS: Final = tuple(name for names in SECTIONS.values() for name in names)
RENAMED: Final = {
    "atlas": "fleet atlas",
    "calibrate": "baseline calibrate",
    "export": "pytest-benchmark export",
    "import": "pytest-benchmark import",
    "save-baseline": "baseline save",
}
"""Former names of commands, with the present ones."""


class LazyGroup(CommandGroup):
    """The commands of xorbench, each imported when it is used."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of the first word; raises `BadOption` for a former name."""
        if args[0] in RENAMED:
            raise BadOption(f"{args[0]} is now: xorbench {RENAMED[args[0]]}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        """Return the command of this name, or None."""
        return command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the commands with their first sentences, by heading."""
        for heading, names in SECTIONS.items():
            with formatter.section(heading):
                rows = [(name, command(name).get_short_help_str(limit=200)) for name in names]
                formatter.write_dl(rows)


def command(name: str) -> click.Command:
    """Import the command of this name."""
    module = {"list": "list_"}.get(name, name.replace("-", "_"))
    loaded = getattr(import_module(f"xorbench.cli.{module}"), module)
    assert isinstance(loaded, click.Command)
    return loaded


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""
    Check PyTorch trainings and machines for correctness, reproducibility and speed.

    Start with: xorbench check -- python train.py, or xorbench canary.

    Exit codes: 0 passed, 1 a check failed, 2 bad input, 3 inconclusive, 4 a required device is
    missing, 130 interrupted. Every command accepts --debug.
    """,
)
@click.version_option(__version__, prog_name="xorbench")
def cli() -> None:
    """Run a command of xorbench."""


def program() -> NoReturn:
    """Run the command line as the program of this process, with its signal handlers."""
    handle_signals()
    try:
        main()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            ignore_signals()  # a closing terminal sends several, and one changes the exit code
        raise


def main() -> NoReturn:
    """Run the command line; an error of the user is printed as one line and a hint."""
    _open_closed_streams()
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        code = cli.main(arguments, prog_name="xorbench", standalone_mode=False)
    except (XorbenchError, click.ClickException) as error:
        if debug:
            traceback.print_exc()
        code = _print_error(error)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if debug or module not in LIBRARIES:
            raise
        code = _print_error(not_installed(arguments[0], module))
    except OSError as error:
        if debug or error.errno not in REFUSALS:
            raise
        code = _print_error(_refusal(error))
    except (KeyboardInterrupt, click.Abort):
        echo("xorbench: interrupted", err=True)
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


REFUSALS: Final = {
    errno.ENAMETOOLONG: "no file can have this name",
    errno.EMFILE: "ulimit -n shows the limit of open files",
    errno.ENFILE: "the open files of all programs exceed the limit of the system",
    errno.EAGAIN: "ulimit -u shows the limit of processes",
    errno.ENOMEM: "not enough memory",
}
"""Errors that the operating system may report for any command, with their hints."""


def _refusal(error: OSError) -> BadFile:
    file_prefix = "" if error.filename is None else f"{error.filename}: "
    return BadFile(f"{file_prefix}{why(error)}", REFUSALS[error.errno or 0])


def _open_closed_streams() -> None:
    """Connect each closed standard stream to the null device.

    The next opened file would otherwise get its descriptor, and receive the output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def _print_error(error: XorbenchError | click.ClickException) -> int:
    if isinstance(error, XorbenchError):
        message, hint, code = error.message, error.hint, error.exit_code
    else:
        message, hint, code = _usage(error), _hint(error), BAD_INPUT
    echo(f"xorbench: {_single_line(message)}", err=True)
    if hint:
        echo(f"hint: {_single_line(hint)}", err=True)
    return code


LONGEST_WORD: Final = 400


def _single_line(text: str) -> str:
    """Return the text as one line, with overlong words shortened."""
    words = text.split()
    return " ".join(
        word if len(word) <= LONGEST_WORD else f"{word[: LONGEST_WORD // 4]}…" for word in words
    )


NEAR: Final = 0.65  # the least similarity of a suggested word, as defined by `difflib`


def _hint(error: click.ClickException) -> str:
    """Suggest the most similar name, or else the help of the command."""
    context = getattr(error, "ctx", None)
    word = getattr(error, "option_name", None) or getattr(error, "name", "")
    known = getattr(error, "possibilities", None) or ()
    bare = {name.lstrip("-"): name for name in known}
    if word and (near := get_close_matches(word.lstrip("-"), bare, n=2, cutoff=NEAR)):
        return f"did you mean {' or '.join(bare[name] for name in near)}?"
    path = context.command_path if context is not None else "xorbench"
    return f"see python -m {path} --help"


def _usage(error: click.ClickException) -> str:
    """Return the message of click, with the option first."""
    if isinstance(error, click.NoSuchOption):
        return f"{error.option_name}: no such option"
    if isinstance(error, click.BadOptionUsage):
        return f"{error.option_name}: {error.message}"
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{error.param.opts[0]}: {error.message}"
    return error.message
