"""`export`: a run as a file of another tool."""

from pathlib import Path

import click

from xorbench.cli.options import OUT, writable
from xorbench.cli.printing import say
from xorbench.options import parse


@click.command(
    help="Write a run as a file of another program: an epoch is a round, a case a benchmark.",
)
@click.argument("text", metavar="RUN")
@click.option("--to", "file_format", required=True, metavar="FORMAT", help="pytest-benchmark.")
@click.argument("file", metavar="FILE")
@OUT
def export(text: str, file_format: str, file: str, out: Path) -> int:
    """Run the command `export`; the answer is its exit code."""
    from xorbench.xor.report import pytest_benchmark as command

    file_format = parse.word("--to", file_format, tuple(command.EXPORTS))
    path = writable("FILE", file)
    count = command.export(out, text, file_format, path)
    say(f"{path}: {count} benchmarks")
    return 0
