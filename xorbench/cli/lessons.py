"""`lessons`: statements of tutorials, measured."""

from typing import Any

import click

from xorbench.cli.options import ANONYMOUS, OUT, answered_within, command_line, named, outputs
from xorbench.cli.printing import exports_of, print_outcome


@click.command(
    help="Try what a beginner's tutorial says of this network, and say what holds here.",
)
@OUT
@named("them")
@answered_within(what="one lesson")
@ANONYMOUS
@outputs
def lessons(**options: Any) -> int:
    """Run the command `lessons`; the answer is its exit code."""
    from xorbench.commands.lessons import LessonsRequest
    from xorbench.commands.lessons import lessons as command

    request = LessonsRequest(
        command=command_line(options["anonymous"]),
        root=options["out"],
        name=options["name"],
        timeout_s=options["timeout"],
        anonymous=options["anonymous"],
    )
    exports = exports_of(options)
    return print_outcome(command(request), options, exports)
