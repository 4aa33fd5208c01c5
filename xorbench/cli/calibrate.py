"""`calibrate`: the intervals of this machine."""

from typing import Any

import click

from xorbench.cli.options import JSON, OUT, answered_within, option, within
from xorbench.cli.printing import say
from xorbench.errors import INTERRUPTED, PASSED
from xorbench.plan import parse


@click.command(
    help="""Measure what runs of this machine differ by, for the intervals of compare.

    Two more runs are made beside a program that keeps every processor busy. Some minutes; nothing
    is saved before the end.
    """,
)
@click.option("--runs", default="8", metavar="N", help="Quiet runs, one after the other [8].")
@option("--processes", "N", "Fresh processes for each case", within(parse.integer, 2, 64), "2")
@option("--epochs", "N", "Epochs of each training", within(parse.integer, 2, 1_000_000), "100")
@answered_within()
@OUT
@JSON
def calibrate(**options: Any) -> int:
    """Run the command `calibrate`; the answer is its exit code."""
    from xorbench.commands import calibrate as command
    from xorbench.report import scatter as report

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
