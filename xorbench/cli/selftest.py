"""`selftest`: every fault, and the check that sees it."""

import time

import click

from xorbench.cli.options import JSON
from xorbench.cli.printing import note, say
from xorbench.extras import require


@click.command(
    help="Inject every fault of a process in short runs; each must be caught by its check.",
)
@JSON
def selftest(as_json: bool) -> int:
    """Run the command `selftest`; the answer is its exit code."""
    require("selftest", "run")
    from xorbench.xor.report import selftest as report
    from xorbench.xor.selftest import selftest as command

    begun = time.monotonic()
    outcome = command(note)
    wall_s = time.monotonic() - begun
    say(report.as_json(outcome) if as_json else report.text(outcome, wall_s))
    return outcome.exit_code
