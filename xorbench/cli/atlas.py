"""`atlas`: which bits an environment gives, on record."""

from pathlib import Path

import click

from xorbench.cli.options import JSON, ROOT, root_of
from xorbench.cli.printing import say


@click.group(
    help="Keep the digests of the PyTorch training on record, by environment.",
)
def atlas() -> None:
    """Run a command of `atlas`."""


@atlas.command(
    "add",
    help="Put a run on record; a known environment that gives other bits is a failure.",
)
@click.argument("text", metavar="[RUN]", default="latest")
@click.option("--atlas", "file", metavar="FILE", help="The data file [DIR/baselines/atlas.json].")
@ROOT
def atlas_add(text: str, file: str | None, out: str) -> int:
    """Run the command `atlas add`; the answer is its exit code."""
    from xorbench.commands import atlas as command
    from xorbench.report import atlas as report

    added = command.add(root_of(out), text, _atlas(file, out))
    say(report.changes(added.changes))
    return added.exit_code


@atlas.command(
    "show",
    help="Show what is on record.",
)
@click.option("--atlas", "file", metavar="FILE", help="The data file [DIR/baselines/atlas.json].")
@ROOT
@JSON
def atlas_show(file: str | None, out: str, as_json: bool) -> int:
    """Run the command `atlas show`; the answer is its exit code."""
    from xorbench.commands import atlas as command
    from xorbench.report import atlas as report

    found, code = command.show(_atlas(file, out))
    say(report.as_json(found) if as_json else report.text(found))
    return code


def _atlas(file: str | None, out: str) -> Path:
    return Path(file) if file else root_of(out) / "baselines" / "atlas.json"
