"""`env`: the hardware and software of this machine."""

import json

import click

from xorbench.cli.options import ANONYMOUS, option
from xorbench.cli.printing import echo, note
from xorbench.errors import BadOption
from xorbench.xor.matrix.axes import read_pythons


@click.command(
    help="Print the hardware and software that a training process uses, as JSON for bug reports.",
)
@option("--python", "FILE", "Describe the interpreter FILE, such as venv/bin/python", read_pythons)
@ANONYMOUS
@click.option("--json", "_as_json", is_flag=True, help="Print JSON, which is also the default.")
def env(python: tuple[str, ...] | None, anonymous: bool, _as_json: bool) -> int:
    """Run the command `env` and return its exit code."""
    from xorbench.machine.env import env as command
    from xorbench.records.redaction import without_names

    if python is not None and len(python) > 1:
        raise BadOption(f"--python: {len(python)} interpreters given", "describe one at a time")
    description = command(anonymous=anonymous, python=None if python is None else python[0])
    if description["process"] is None:
        note("no PyTorch in this environment: give that of the training: --python venv/bin/python")
    echo(json.dumps(without_names(description) if anonymous else description, indent=2))
    return 0
