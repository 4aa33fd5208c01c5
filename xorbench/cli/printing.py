"""Output that several commands share."""

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


def echo(text: str, *, err: bool = False) -> None:
    """Print a text without control characters and secrets; raises `BadFile`.

    A closed pipe or terminal changes neither the work nor the exit code.
    """
    stream = sys.stderr if err else sys.stdout
    try:
        click.echo(printable(encodable(masked(text))), err=err)
        stream.flush()
    except OSError as error:
        gone = isinstance(error, BrokenPipeError) or _hung_up(error, stream)
        # otherwise the interpreter writes the rest of the buffer again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not gone:
            raise BadFile(f"standard output: cannot write: {why(error)}") from None


def _hung_up(error: OSError, stream: TextIO) -> bool:
    """Whether the stream is a closed terminal."""
    return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)


def note(text: str) -> None:
    """Print a line to standard error, unless it is empty."""
    if text:
        echo(f"xorbench: {text}", err=True)


def exports_of(options: dict[str, Any]) -> Any:
    """Open the CI output files; raises `BadOption` for one that cannot be written."""
    from xorbench.report.ci_outputs import opened

    for name in ("junit", "markdown"):
        if options[name] and Path(options[name]).absolute() == Path(options["out"]).absolute():
            raise BadOption(f"--{name}: {options[name]!r} is the folder of --out")
    return opened(options["junit"], options["markdown"])


def print_outcome(outcome: Any, options: dict[str, Any], exports: Any = None) -> int:
    """Print the answer of a run, write its CI output files, and return the exit code."""
    from xorbench.report import document

    if options["as_json"]:
        echo(document.as_json(outcome.content, outcome.exit_code))
    else:
        verbose = options.get("verbose", False)
        echo(document.terminal(outcome.content, outcome.exit_code, verbose=verbose))
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
    """Print a report, and its path on standard error after `head`."""
    echo(shown.text)
    note(f"{head}report in {shown_path(shown.report)}")
    note(shown.warning)


def shown_path(folder: Path) -> Path:
    """Return a folder relative to the working folder if it is below it."""
    working_folder = Path.cwd()
    return folder.relative_to(working_folder) if folder.is_relative_to(working_folder) else folder


def progress() -> Any:
    """Make a progress display for standard error."""
    from xorbench.runtime.progress import for_stream

    return for_stream()
