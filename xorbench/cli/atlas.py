"""`atlas`: which bits an environment gives, on record."""

from pathlib import Path
from typing import Final

import click

from xorbench.cli.options import JSON, OUT
from xorbench.cli.printing import say

ATLAS: Final = click.option(
    "--atlas", "file", metavar="FILE", help="The data file [DIR/baselines/atlas.json]."
)


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
@ATLAS
@OUT
def atlas_add(text: str, file: str | None, out: Path) -> int:
    """Run the command `atlas add`; the answer is its exit code."""
    from xorbench.fleet import atlas_report as report
    from xorbench.fleet import record_atlas as command

    added = command.add(out, text, _atlas(file, out))
    say(report.changes(added.changes))
    return added.exit_code


@atlas.command(
    "show",
    help="Show what is on record.",
)
@ATLAS
@OUT
@JSON
def atlas_show(file: str | None, out: Path, as_json: bool) -> int:
    """Run the command `atlas show`; the answer is its exit code."""
    from xorbench.fleet import atlas_report as report
    from xorbench.fleet import record_atlas as command

    record, code = command.show(_atlas(file, out))
    say(report.as_json(record) if as_json else report.text(record))
    return code


def _atlas(file: str | None, out: Path) -> Path:
    return Path(file) if file else out / "baselines" / "atlas.json"
