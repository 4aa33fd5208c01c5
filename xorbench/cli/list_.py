"""`list`: the settings, engines, checks, probes and faults."""

import json

import click

from xorbench.cli.options import JSON
from xorbench.cli.printing import echo


@click.command(
    "list",
    help="List settings, recipe, engines, checks, probes and injectable faults.",
)
@JSON
def list_(as_json: bool) -> int:
    """Run the command `list` and return its exit code."""
    from xorbench.cli.listing import LISTS
    from xorbench.report.text import to_terminal

    frames = {name: table() for name, table in LISTS.items()}
    if as_json:
        echo(json.dumps({n: f.to_dict("records") for n, f in frames.items()}, indent=2))
    else:
        echo("\n\n".join(f"{n}\n\n{to_terminal(f)}" for n, f in frames.items()))
    return 0
