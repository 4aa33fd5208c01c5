"""`compare`: is B slower than A?"""

from functools import partial
from typing import Any

import click

from xorbench.cli.options import OUT, option, outputs, refuse_given
from xorbench.cli.printing import exports_of, note, say
from xorbench.errors import BadOption
from xorbench.extras import require
from xorbench.options import parse


@click.command(
    help="""Is B slower than A, in code or settings, or is the machine?

    A and B are runs: a path, an id, the unique beginning of one, a name, or latest. With --by each
    value of a setting is judged against the first, by its speed and by its bits.
    """,
)
@click.argument("runs", metavar="[A] B", nargs=-1)
@option("--baseline", "NAME", "Compare B with this saved baseline")
@click.option("--by", "axis", metavar="SETTING", help="Judge along one setting of one run.")
@option("--threshold", "X", "Slower by more fails", parse.share, "5%")
@option(
    "--machine-threshold",
    "X",
    "Fail if the machine is slower by this factor",
    parse.real,
    "1.5",
    low=1,
    high=1e6,
)
@OUT
@outputs
def compare(**options: Any) -> int:
    """Run the command `compare`; the answer is its exit code."""
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
        # the values of a setting are timed on one machine, in one run
        why = "cannot be given with --by"
        refuse_given(("machine_threshold",), why, "--threshold judges each pair")
        along = command.by_axis(root, runs[0], axis, thresholds[0])
        return _answer(along, options, exports)
    before = None if options["baseline"] else runs[0]
    between = command.compare(root, before, runs[-1], options["baseline"], thresholds)
    return _answer(between, options, exports)


def _answer(comparison: Any, options: dict[str, Any], exports: Any) -> int:
    """Print what the comparison came to, and write what a CI asked for."""
    from xorbench.xor.compare import compare as command
    from xorbench.xor.report import compare as report

    verdicts, markdown = command.verdicts(comparison), partial(report.as_markdown, comparison)
    if options["as_json"]:
        say(report.as_json(comparison))
    else:
        say(report.as_text(comparison))
        if step := report.next_step(verdicts):
            say(step)
    note(exports.write(verdicts, "compare", markdown, markdown))
    return command.exit_code(comparison)
