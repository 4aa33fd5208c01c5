"""`baseline`: save a run as a baseline; measure the run-to-run variance of this machine."""

from pathlib import Path
from typing import Any

import click

from xorbench.cli.groups import CommandGroup
from xorbench.cli.options import JSON, OUT, option, processes_option, read_text, timeout_option
from xorbench.cli.printing import echo, shown_path
from xorbench.errors import INTERRUPTED, PASSED
from xorbench.extras import require
from xorbench.options import parse


@click.group(cls=CommandGroup, help="Save runs as baselines, and measure run-to-run variance.")
def baseline() -> None:
    """Run a command of `baseline`."""


@baseline.command("save", help="Copy a run to DIR/baselines/NAME, for compare --baseline NAME.")
@click.argument("name", metavar="NAME")
@click.argument("text", metavar="[RUN]", default="latest")
@click.option("--replace", is_flag=True, help="Replace an existing baseline NAME.")
@OUT
def save(name: str, text: str, replace: bool, out: Path) -> int:
    """Run the command `baseline save` and return its exit code."""
    from xorbench.xor.compare import compare as command

    folder = command.save_baseline(out, parse.name("NAME", name), text, replace=replace)
    echo(f"xorbench: baseline in {shown_path(folder)}", err=True)
    return PASSED


@baseline.command(
    "calibrate",
    help="""Measure this machine's run-to-run variance, which compare uses for its intervals.

    Takes a few minutes, including two runs under full CPU load. Saves only on completion.
    """,
)
@option("--runs", "N", "Make N quiet runs", read_text, "8")
@processes_option("2", low=2)
@option("--epochs", "N", "Train for N epochs", parse.integer, "100", low=2, high=1_000_000)
@timeout_option()
@OUT
@JSON
def calibrate(**options: Any) -> int:
    """Run the command `baseline calibrate` and return its exit code."""
    require("baseline calibrate", "run")
    from xorbench.xor import calibrate as command
    from xorbench.xor.report import run_variance as report

    request = command.CalibrateRequest(
        root=options["out"],
        runs=parse.integer("--runs", options["runs"], command.FEWEST, 1000),
        processes=options["processes"],
        epochs=options["epochs"],
        timeout_s=options["timeout"],
    )
    calibrated = command.calibrate(request, lambda text: echo(f"xorbench: {text}", err=True))
    if calibrated is None:
        echo("xorbench: interrupted: nothing was saved", err=True)
        return INTERRUPTED
    echo(report.as_json(calibrated) if options["as_json"] else report.as_text(calibrated))
    return PASSED
