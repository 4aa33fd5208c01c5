"""`selftest`: inject every fault, and verify that its check detects it."""

import time

import click

from xorbench.cli.options import JSON
from xorbench.cli.printing import echo, note
from xorbench.extras import require


@click.command(
    help="Inject every fault of a process in short runs; its check must detect it.",
)
@JSON
def selftest(as_json: bool) -> int:
    """Run the command `selftest` and return its exit code."""
    require("selftest", "run")
    from xorbench.xor.report import selftest as report
    from xorbench.xor.selftest import selftest as command

    start = time.monotonic()
    outcome = command(note)
    wall_s = time.monotonic() - start
    echo(report.as_json(outcome) if as_json else report.text(outcome, wall_s))
    return outcome.exit_code
