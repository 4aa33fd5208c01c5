"""`env`: the hardware and software of this machine."""

import json

import click

from xorbench.cli.options import ANONYMOUS
from xorbench.cli.printing import echo


@click.command(
    help="Print the hardware and software that a training process uses, as JSON for bug reports.",
)
@ANONYMOUS
@click.option("--json", "_as_json", is_flag=True, help="Print JSON, which is also the default.")
def env(anonymous: bool, _as_json: bool) -> int:
    """Run the command `env` and return its exit code."""
    from xorbench.machine.env import env as command
    from xorbench.records.redaction import without_names

    description = command(anonymous=anonymous)
    echo(json.dumps(without_names(description) if anonymous else description, indent=2))
    return 0
