"""`lessons`: statements of tutorials, measured."""

from typing import Any

import click

from xorbench.cli.options import (
    JSON,
    JUNIT,
    MARKDOWN,
    ROOT,
    command_line,
    name_of,
    root_of,
    timeout_of,
)
from xorbench.cli.printing import exports_of, print_outcome


@click.command(
    help="Try what a beginner's tutorial says of this network, and say what holds here.",
)
@ROOT
@click.option("--name", metavar="NAME", help="A name to find them by.")
@click.option("--timeout", default="120", metavar="S", help="Seconds to wait for one lesson [120].")
@click.option("--anonymous", is_flag=True, help="No host name, absolute path or UUID in the files.")
@JUNIT
@MARKDOWN
@JSON
def lessons(**options: Any) -> int:
    """Run the command `lessons`; the answer is its exit code."""
    from xorbench.commands.lessons import LessonsRequest
    from xorbench.commands.lessons import lessons as command

    request = LessonsRequest(
        command=command_line(options["anonymous"]),
        root=root_of(options["out"]),
        name=name_of(options["name"]),
        timeout_s=timeout_of(options),
        anonymous=options["anonymous"],
    )
    exports = exports_of(options)
    return print_outcome(command(request), options["as_json"], exports)
