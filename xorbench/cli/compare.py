"""`compare`: compare the speed of two runs."""

from functools import partial
from typing import Any

import click

from xorbench.cli.options import MACHINE_THRESHOLD, OUT, option, outputs, refuse_given
from xorbench.cli.printing import echo, exports_of, note
from xorbench.errors import BadOption
from xorbench.extras import require
from xorbench.options import parse


@click.command(
    help="""Compare two runs: is B slower, and is it the code or the machine?

    A and B are runs: a path, an id, a unique prefix, a name, or latest. With --by, each value of a
    setting is compared with the first, in speed and in bits.
    """,
)
@click.argument("runs", metavar="[A] B", nargs=-1)
@option("--baseline", "NAME", "Compare B with the saved baseline NAME")
@click.option("--by", "axis", metavar="SETTING", help="Compare the values of SETTING in one run.")
@option("--threshold", "X", "Fail if slower by more than X", parse.share, "5%")
@MACHINE_THRESHOLD
@OUT
@outputs
def compare(**options: Any) -> int:
    """Run the command `compare` and return its exit code."""
    require("compare", "run", "scipy", "matplotlib")
    from xorbench.xor.compare import compare as command

    exports = exports_of(options)
    root, runs, axis = options["out"], options["runs"], options["axis"]
    thresholds = (options["threshold"], options["machine_threshold"])
    wanted = 1 if axis or options["baseline"] else 2
    if len(runs) != wanted or (axis and options["baseline"]):
        raise BadOption(
            f"compare: {len(runs)} runs given",
            "compare A B, compare B --baseline NAME, or compare RUN --by SETTING",
        )
    if axis:
        # all values of a setting are timed on one machine, in one run
        reason = "cannot be given with --by"
        refuse_given(("machine_threshold",), reason, "--threshold applies to each pair")
        along = command.by_axis(root, runs[0], axis, thresholds[0])
        return _answer(along, options, exports)
    before = None if options["baseline"] else runs[0]
    between = command.compare(root, before, runs[-1], options["baseline"], thresholds)
    return _answer(between, options, exports)


def _answer(comparison: Any, options: dict[str, Any], exports: Any) -> int:
    """Print the result of the comparison, and write the CI output files."""
    from xorbench.xor.compare import compare as command
    from xorbench.xor.report import compare as report

    verdicts, markdown = command.verdicts(comparison), partial(report.as_markdown, comparison)
    if options["as_json"]:
        echo(report.as_json(comparison))
    else:
        echo(report.as_text(comparison))
        if step := report.next_step(verdicts):
            echo(step)
    note(exports.write(verdicts, "compare", markdown, markdown))
    return command.exit_code(comparison)
