"""The command line: options in, text out, exit code. The work is done in `commands`.

One file a command; a command's file is imported when it is asked for.
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
from xorbench.cli.printing import say
from xorbench.errors import BAD_INPUT, INTERRUPTED, BadFile, XorbenchError, why
from xorbench.extras import LIBRARIES, not_installed
from xorbench.runtime.interrupt import handle_signals, ignore_signals

NAMES: Final = (
    *("atlas", "calibrate", "canary", "check", "compare", "diff", "env", "explain", "export"),
    *("fleet", "report", "run", "save-baseline", "selftest", "sweep", "trace"),
)
# Each command, and the module of this package that holds it under that module's own name.
COMMANDS: Final = {
    **{name: name.replace("-", "_") for name in NAMES},
    **{name: f"{name}_" for name in ("import", "list")},
}


class UnknownCommand(click.UsageError):
    """A command that there is not."""

    def __init__(self, name: str, ctx: click.Context) -> None:
        super().__init__(f"no command {name!r}", ctx)
        self.name = name


class LazyGroup(click.Group):
    """Commands that are imported when they are asked for."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of the first word; raises `UnknownCommand`, unless it is an option."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UnknownCommand(args[0], ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Their names, sorted."""
        return sorted(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        """One of them; None for a name that is none."""
        return command(cmd_name) if cmd_name in COMMANDS else None


def command(name: str) -> click.Command:
    """The command of a name."""
    module = COMMANDS[name]
    loaded = getattr(import_module(f"xorbench.cli.{module}"), module)
    assert isinstance(loaded, click.Command)
    return loaded


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""
    Is a PyTorch training, or machine, right, the same to the bit, and as fast as it should be?

    Begin with: xorbench check -- python train.py, or xorbench canary.

    Exit codes: 0 passed, 1 a check failed, 2 bad input, 3 inconclusive, 4 a required device is
    missing, 130 interrupted. Any command takes --debug.
    """,
)
@click.version_option(__version__, prog_name="xorbench")
def cli() -> None:
    """Run a command of xorbench."""


def program() -> NoReturn:
    """Run the command line in a process of its own, which handles signals until it ends."""
    handle_signals()
    try:
        main()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            ignore_signals()  # a closing terminal sends several, and one changes the exit code
        raise


def main() -> NoReturn:
    """Run the command line; a mistake of the user's is one line and a hint, never a traceback."""
    _open_closed_streams()
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        code = cli.main(arguments, prog_name="xorbench", standalone_mode=False)
    except (XorbenchError, click.ClickException) as error:
        if debug:
            traceback.print_exc()
        code = _complain(error)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if debug or module not in LIBRARIES:
            raise
        code = _complain(not_installed(arguments[0], module))
    except OSError as error:
        if debug or error.errno not in REFUSALS:
            raise
        code = _complain(_refusal(error))
    except (KeyboardInterrupt, click.Abort):
        say("xorbench: interrupted", err=True)
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


REFUSALS: Final = {
    errno.ENAMETOOLONG: "no file can have this name",
    errno.EMFILE: "ulimit -n says how many files may be open",
    errno.ENFILE: "other programs have too many files open",
    errno.EAGAIN: "ulimit -u says how many processes may run",
    errno.ENOMEM: "there is too little memory",
}
"""What the operating system may refuse anywhere, and what to know of it."""


def _refusal(error: OSError) -> BadFile:
    file_prefix = "" if error.filename is None else f"{error.filename}: "
    return BadFile(f"{file_prefix}{why(error)}", REFUSALS[error.errno or 0])


def _open_closed_streams() -> None:
    """Let a standard stream that the shell has closed lead nowhere.

    Otherwise the next file that is opened would take its number, and be written to.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def _complain(error: XorbenchError | click.ClickException) -> int:
    if isinstance(error, XorbenchError):
        message, hint, code = error.message, error.hint, error.exit_code
    else:
        message, hint, code = _usage(error), _hint(error), BAD_INPUT
    say(f"xorbench: {_single_line(message)}", err=True)
    if hint:
        say(f"hint: {_single_line(hint)}", err=True)
    return code


LONGEST_WORD: Final = 400


def _single_line(text: str) -> str:
    """The text in one line, and no value in it so long that the line cannot be read."""
    words = text.split()
    return " ".join(
        word if len(word) <= LONGEST_WORD else f"{word[: LONGEST_WORD // 4]}…" for word in words
    )


NEAR: Final = 0.65  # how alike two words must be, as `difflib` counts, for one to be meant


def _hint(error: click.ClickException) -> str:
    """The nearest word that there is, or the help of the command that was asked for."""
    context = getattr(error, "ctx", None)
    word = getattr(error, "option_name", None) or getattr(error, "name", "")
    known = getattr(error, "possibilities", None) or COMMANDS
    bare = {name.lstrip("-"): name for name in known}
    if word and (near := get_close_matches(word.lstrip("-"), bare, n=2, cutoff=NEAR)):
        return f"did you mean {' or '.join(bare[name] for name in near)}?"
    path = context.command_path if context is not None else "xorbench"
    return f"python -m {path} --help says what there is"


def _usage(error: click.ClickException) -> str:
    """Click's own complaint with the option in front."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return "which command?"
    if isinstance(error, click.NoSuchOption):
        return f"{error.option_name}: no such option"
    if isinstance(error, click.BadOptionUsage):
        return f"{error.option_name}: {error.message}"
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{error.param.opts[0]}: {error.message}"
    return error.message
