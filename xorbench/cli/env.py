"""`env`: this machine as a process sees it."""

import json

import click

from xorbench.cli.options import option
from xorbench.cli.printing import note, say
from xorbench.errors import BadOption
from xorbench.xor.matrix.axes import read_pythons


@click.command(
    help="Show this machine as a training process sees it, as JSON for a bug report.",
)
@option("--python", "FILE", "Describe this interpreter, such as venv/bin/python", read_pythons)
@click.option("--anonymous", is_flag=True, help="No host name, absolute path or UUID.")
@click.option("--json", "_as_json", is_flag=True, help="What it prints anyway.")
def env(python: tuple[str, ...] | None, anonymous: bool, _as_json: bool) -> int:
    """Run the command `env`; the answer is its exit code."""
    from xorbench.machine.env import env as command
    from xorbench.records.redaction import without_names

    if python is not None and len(python) > 1:
        raise BadOption(f"--python: {len(python)} interpreters given", "describe one at a time")
    described = command(anonymous=anonymous, python=None if python is None else python[0])
    if described["process"] is None:
        note("no PyTorch in this environment: give that of the training: --python venv/bin/python")
    say(json.dumps(without_names(described) if anonymous else described, indent=2))
    return 0
