"""What several commands print, and where to."""

import errno
import os
import stat
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

import click

from xorbench.errors import BadFile, BadOption, printable, why
from xorbench.recorder.masking import encodable, masked

PAGE: Final = "report.html"


def say(text: str, *, err: bool = False) -> None:
    """Print; a reader that has gone, as `head` does, changes neither the work nor the exit code.

    Nor does a terminal that has been closed.

    Texts of files and commands are printed too, so control characters and secrets do not pass.
    """
    stream = sys.stderr if err else sys.stdout
    try:
        click.echo(printable(encodable(masked(text))), err=err)
        stream.flush()
    except OSError as error:
        gone = isinstance(error, BrokenPipeError) or _hung_up(error, stream)
        # what is left in the buffer must not be tried again when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not gone:
            raise BadFile(f"standard output: cannot write: {why(error)}") from None


def _hung_up(error: OSError, stream: TextIO) -> bool:
    """Whether the stream is a terminal that has been closed."""
    return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)


def note(text: str) -> None:
    """A line on standard error, where there is something to say."""
    if text:
        say(f"xorbench: {text}", err=True)


def exports_of(options: dict[str, Any]) -> Any:
    """The files that a CI asked for; raises `BadOption` for one that cannot be written."""
    from xorbench.report.ci_outputs import opened

    for name in ("junit", "markdown"):
        if options[name] and Path(options[name]).absolute() == Path(options["out"]).absolute():
            raise BadOption(f"--{name}: {options[name]!r} is the folder of --out")
    return opened(options["junit"], options["markdown"])


def print_outcome(outcome: Any, options: dict[str, Any], exports: Any = None) -> int:
    """Print a run's answer, write what was asked for besides, and give the exit code."""
    from xorbench.report import document

    if options["as_json"]:
        say(document.as_json(outcome.content, outcome.exit_code))
    else:
        verbose = options.get("verbose", False)
        say(document.terminal(outcome.content, outcome.exit_code, verbose=verbose))
    if outcome.folder is not None:
        page = outcome.folder / PAGE
        note(f"report in {shown_path(page if page.is_file() else outcome.folder)}")
    if exports is not None:
        content = outcome.content
        texts = partial(document.markdown, content), partial(document.brief, content)
        note(exports.write(content.verdicts, content.id, *texts))
    code: int = outcome.exit_code
    return code


def print_shown(shown: Any, head: str = "") -> None:
    """Print what a report shows, and on standard error, after `head`, where it is."""
    say(shown.text)
    note(f"{head}report in {shown_path(shown.report)}")
    note(shown.warning)


def shown_path(folder: Path) -> Path:
    """The folder from here, if it lies below; else in full."""
    working_folder = Path.cwd()
    return folder.relative_to(working_folder) if folder.is_relative_to(working_folder) else folder


def progress() -> Any:
    """How far it is, in the form that standard error can show."""
    from xorbench.runtime.progress import for_stream

    return for_stream()
