"""`report`: reports of stored runs."""

from typing import Any

import click

from xorbench.cli.options import OUT, VERBOSE, option, outputs
from xorbench.cli.printing import exports_of, note, print_outcome
from xorbench.errors import BadOption
from xorbench.extras import require


@click.command(
    help="""Recreate the report of a run from its files, or show several runs side by side.

    RUN is a path, an id, a unique prefix, a name, or latest.
    """,
)
@click.argument("texts", metavar="[RUN …]", nargs=-1)
@click.option("--history", is_flag=True, help="Show each case over all runs, and mark changes.")
@option(
    "--html",
    "FILE",
    "Write the page of several runs to FILE",
)
@click.option(
    "--anonymous",
    is_flag=True,
    help="Report on a copy without host name, absolute paths and UUIDs.",
)
@OUT
@VERBOSE
@outputs
def report(**options: Any) -> int:
    """Run the command `report` and return its exit code."""
    require("report", "run", "scipy", "matplotlib")
    from xorbench.xor import report_again as command

    if options["history"]:
        return _print_history(options)
    root, texts = options["out"], options["texts"] or ("latest",)
    if len(texts) > 1:
        if options["anonymous"]:
            raise BadOption(
                "--anonymous: accepts one run", "copy each run, then compare the copies"
            )
        return _print_sides(command.sides(root, texts), options)
    if options["html"] is not None:
        raise BadOption(
            "--html: requires several runs", "the page of one run is report.html in its folder"
        )
    exports, text = exports_of(options), texts[0]
    if options["anonymous"]:
        from xorbench.records.anonymous import copied

        text = str(copied(root, text))
    outcome, trouble = command.report(root, text)
    note(trouble)
    return print_outcome(outcome, options, exports)


def _print_history(options: dict[str, Any]) -> int:
    from xorbench.xor.report_again import history

    if options["texts"]:
        raise BadOption("--history: shows every run, so give no RUN", "report A B shows some runs")
    outcome, troubles = history(options["out"])
    for trouble in troubles:
        note(trouble)
    return _print_sides(outcome, options)


def _print_sides(outcome: Any, options: dict[str, Any]) -> int:
    """Print a report of several runs, and write its page and CI output files."""
    from xorbench.report.ci_outputs import write_page

    exports = exports_of(options)
    if options["html"] is not None:
        write_page(options["html"], outcome.content)
    return print_outcome(outcome, options, exports)
