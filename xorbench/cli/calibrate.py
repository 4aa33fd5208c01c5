"""`calibrate`: the intervals of this machine."""

from typing import Any

import click

from xorbench.cli.options import JSON, ROOT, root_of, timeout_of
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
@click.option("--processes", default="2", metavar="N", help="Fresh processes for each case [2].")
@click.option("--epochs", default="100", metavar="N", help="Epochs of each training [100].")
@click.option("--timeout", default="120", metavar="S", help="Seconds to wait for one answer [120].")
@ROOT
@JSON
def calibrate(**options: Any) -> int:
    """Run the command `calibrate`; the answer is its exit code."""
    from xorbench.commands import calibrate as command
    from xorbench.report import scatter as report

    request = command.CalibrateRequest(
        root=root_of(options["out"]),
        runs=parse.integer("--runs", options["runs"], command.FEWEST, 1000),
        processes=parse.integer("--processes", options["processes"], 2, 64),
        epochs=parse.integer("--epochs", options["epochs"], 2, 1_000_000),
        timeout_s=timeout_of(options),
    )
    found = command.calibrate(request, lambda text: say(f"xorbench: {text}", err=True))
    if found is None:
        say("xorbench: interrupted: nothing was saved", err=True)
        return INTERRUPTED
    say(report.as_json(found) if options["as_json"] else report.as_text(found))
    return PASSED
