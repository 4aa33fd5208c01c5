"""`calibrate`: the intervals of this machine."""

from typing import Any

import click

from xorbench.cli.options import JSON, OUT, answered_within, option, read_text
from xorbench.cli.printing import say
from xorbench.errors import INTERRUPTED, PASSED
from xorbench.extras import require
from xorbench.options import parse


@click.command(
    help="""Measure what runs of this machine differ by, for the intervals of compare.

    Two more runs are made beside a program that keeps every processor busy. Some minutes; nothing
    is saved before the end.
    """,
)
@option("--runs", "N", "Quiet runs, one after the other", read_text, "8")
@option("--processes", "N", "Fresh processes for each case", parse.integer, "2", low=2, high=64)
@option("--epochs", "N", "Epochs of each training", parse.integer, "100", low=2, high=1_000_000)
@answered_within()
@OUT
@JSON
def calibrate(**options: Any) -> int:
    """Run the command `calibrate`; the answer is its exit code."""
    require("calibrate", "run")
    from xorbench.xor import calibrate as command
    from xorbench.xor.report import run_variance as report

    request = command.CalibrateRequest(
        root=options["out"],
        runs=parse.integer("--runs", options["runs"], command.FEWEST, 1000),
        processes=options["processes"],
        epochs=options["epochs"],
        timeout_s=options["timeout"],
    )
    calibrated = command.calibrate(request, lambda text: say(f"xorbench: {text}", err=True))
    if calibrated is None:
        say("xorbench: interrupted: nothing was saved", err=True)
        return INTERRUPTED
    say(report.as_json(calibrated) if options["as_json"] else report.as_text(calibrated))
    return PASSED
