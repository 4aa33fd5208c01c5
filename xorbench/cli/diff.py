"""`diff`: locate the first difference of two trainings."""

import json
from typing import Any

import click

from xorbench.cli.options import JSON, OUT, timeout_option
from xorbench.cli.printing import echo


@click.command(
    help="""Locate the first difference of two trainings: epoch, step, tensor and element.

    A and B are runs, trainings of runs (latest:CASE, or latest:CASE#p1 for one of its
    processes), or files written by trace.
    """,
)
@click.argument("a")
@click.argument("b")
@click.option(
    "--up-to-rounding",
    is_flag=True,
    help="Allow differences that rounding explains, in traces recorded with this option.",
)
@timeout_option()
@OUT
@JSON
def diff(**options: Any) -> int:
    """Run the command `diff` and return its exit code."""
    from xorbench.programs import report as programs
    from xorbench.programs.questions import diff
    from xorbench.xor.trace import report
    from xorbench.xor.trace.diff import diff as command

    a, b = options["a"], options["b"]
    between = diff.diff(a, b, up_to_rounding=options["up_to_rounding"])
    if between is not None:
        conclusion, code = between
        as_json = json.dumps(programs.for_programs(conclusion, code), indent=2)
        echo(as_json if options["as_json"] else programs.conclusion_text(conclusion))
        return code
    difference, code = command(a, b, options["out"], options["timeout"])
    echo(report.as_json(difference, code) if options["as_json"] else report.text(difference))
    return code
