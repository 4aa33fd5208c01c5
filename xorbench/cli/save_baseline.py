"""`save-baseline`: keep a run under a name."""

from pathlib import Path

import click

from xorbench.cli.options import OUT
from xorbench.cli.printing import say, shown_path
from xorbench.options import parse


@click.command(
    "save-baseline",
    help="Keep a copy of a run in DIR/baselines, for compare --baseline NAME.",
)
@click.argument("name", metavar="NAME")
@click.argument("text", metavar="[RUN]", default="latest")
@click.option("--replace", is_flag=True, help="Take the place of a baseline of this name.")
@OUT
def save_baseline(name: str, text: str, replace: bool, out: Path) -> int:
    """Run the command `save-baseline`; the answer is its exit code."""
    from xorbench.xor.compare import compare as command

    folder = command.save_baseline(out, parse.name("NAME", name), text, replace=replace)
    say(f"xorbench: baseline in {shown_path(folder)}", err=True)
    return 0
