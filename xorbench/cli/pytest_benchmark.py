"""`pytest-benchmark`: export runs to pytest-benchmark, and import its files as runs."""

from pathlib import Path
from typing import Any

import click

from xorbench.cli.groups import CommandGroup
from xorbench.cli.options import ANONYMOUS, JSON, NAME, OUT, command_line, writable
from xorbench.cli.printing import echo, print_outcome
from xorbench.errors import PASSED
from xorbench.extras import require


@click.group(cls=CommandGroup, help="Exchange runs with pytest-benchmark.")
def pytest_benchmark() -> None:
    """Run a command of `pytest-benchmark`."""


@pytest_benchmark.command(
    "export",
    help="Write a run as a pytest-benchmark file: one benchmark per case, one round per epoch.",
)
@click.argument("text", metavar="RUN")
@click.argument("file", metavar="FILE")
@OUT
def export(text: str, file: str, out: Path) -> int:
    """Run the command `pytest-benchmark export` and return its exit code."""
    from xorbench.xor.report import pytest_benchmark as command

    path = writable("FILE", file)
    count = command.export(out, text, path)
    echo(f"{path}: {count} benchmarks")
    return PASSED


@pytest_benchmark.command(
    "import",
    help="""Import a pytest-benchmark file as a run, for report and compare.

    Such a file has no epoch digests, calibration times or weights, so only raw times are compared.
    """,
)
@click.argument("file", metavar="FILE")
@OUT
@NAME
@ANONYMOUS
@JSON
def import_(**options: Any) -> int:
    """Run the command `pytest-benchmark import` and return its exit code."""
    require("pytest-benchmark import", "run", "scipy", "matplotlib")
    from xorbench.xor.report.pytest_benchmark import ImportRequest
    from xorbench.xor.report.pytest_benchmark import import_ as command

    request = ImportRequest(
        file=options["file"],
        command=command_line(options["anonymous"]),
        root=options["out"],
        name=options["name"],
        anonymous=options["anonymous"],
    )
    return print_outcome(command(request), options)
