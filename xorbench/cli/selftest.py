"""`selftest`: every fault, and the check that sees it."""

import time

import click

from xorbench.cli.options import JSON
from xorbench.cli.printing import note, say
from xorbench.errors import CHECK_FAILED


@click.command(
    help="Inject every fault of a process in short runs; each must be caught by its check.",
)
@JSON
def selftest(as_json: bool) -> int:
    """Run the command `selftest`; the answer is its exit code."""
    from xorbench.commands.selftest import selftest as command
    from xorbench.report import selftest as report

    begun = time.monotonic()
    outcome = command(note)
    rows = [(one.fault, one.check, one.said) for one in outcome.caught]
    code = 0 if outcome.passed else CHECK_FAILED
    wall_s = time.monotonic() - begun
    as_text = report.text(rows, outcome.alarms, wall_s)
    say(report.as_json(rows, outcome.alarms, code) if as_json else as_text)
    return code
