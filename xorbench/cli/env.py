"""`env`: this machine as a process sees it."""

import json

import click

from xorbench.cli.printing import say


@click.command(
    help="Show this machine as a training process sees it, as JSON for a bug report.",
)
@click.option("--anonymous", is_flag=True, help="No host name, absolute path or UUID.")
@click.option("--json", "_as_json", is_flag=True, help="What it prints anyway.")
def env(anonymous: bool, _as_json: bool) -> int:
    """Run the command `env`; the answer is its exit code."""
    from xorbench.machine.env import env as command
    from xorbench.records.redaction import without_names

    described = command(anonymous=anonymous)
    say(json.dumps(without_names(described) if anonymous else described, indent=2))
    return 0
