"""`fleet atlas`: digests of the PyTorch training, stored by environment."""

from pathlib import Path
from typing import Final

import click

from xorbench.cli.groups import CommandGroup
from xorbench.cli.options import JSON, OUT
from xorbench.cli.printing import echo

ATLAS: Final = click.option(
    "--atlas", "file", metavar="FILE", help="Use the atlas in FILE [DIR/baselines/atlas.json]."
)


@click.group(
    cls=CommandGroup, help="Store digests of the PyTorch training by environment in an atlas."
)
def atlas() -> None:
    """Run a command of `fleet atlas`."""


@atlas.command("add", help="Add a run; fail if its environment is known with different bits.")
@click.argument("text", metavar="[RUN]", default="latest")
@ATLAS
@OUT
def atlas_add(text: str, file: str | None, out: Path) -> int:
    """Run the command `fleet atlas add` and return its exit code."""
    from xorbench.fleet import atlas_report as report
    from xorbench.fleet import record_atlas as command

    added = command.add(out, text, _atlas(file, out))
    echo(report.changes(added.changes))
    return added.exit_code


@atlas.command("show", help="Show the stored environments and digests.")
@ATLAS
@OUT
@JSON
def atlas_show(file: str | None, out: Path, as_json: bool) -> int:
    """Run the command `fleet atlas show` and return its exit code."""
    from xorbench.fleet import atlas_report as report
    from xorbench.fleet import record_atlas as command

    record, code = command.show(_atlas(file, out))
    echo(report.as_json(record) if as_json else report.text(record))
    return code


def _atlas(file: str | None, out: Path) -> Path:
    return Path(file) if file else out / "baselines" / "atlas.json"
