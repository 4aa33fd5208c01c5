"""`diff`: where two trainings diverge."""

import json
from typing import Any

import click

from xorbench.cli.options import JSON, OUT, answered_within
from xorbench.cli.printing import say


@click.command(
    help="""Find where two trainings diverge: epoch, step, tensor, element.

    A and B are runs, trainings of runs (latest:CASE, or latest:CASE#p1 for one of its
    processes), or files that trace has written.
    """,
)
@click.argument("a")
@click.argument("b")
@answered_within()
@OUT
@JSON
def diff(**options: Any) -> int:
    """Run the command `diff`; the answer is its exit code."""
    from xorbench.commands import diff_programs
    from xorbench.commands.diff import diff as command
    from xorbench.report import check as programs
    from xorbench.report import diff as report

    a, b = options["a"], options["b"]
    between = diff_programs.diff(a, b)
    if between is not None:
        conclusion, code = between
        as_json = json.dumps(programs.for_programs(conclusion, code), indent=2)
        say(as_json if options["as_json"] else programs.conclusion_text(conclusion))
        return code
    difference, code = command(a, b, options["out"], options["timeout"])
    say(report.as_json(difference, code) if options["as_json"] else report.text(difference))
    return code
