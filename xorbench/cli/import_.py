"""`import`: a file of another tool as a run."""

from typing import Any

import click

from xorbench.cli.options import ANONYMOUS, JSON, OUT, command_line, named
from xorbench.cli.printing import print_outcome
from xorbench.extras import require


@click.command(
    "import",
    help="""Make a run of a file of pytest-benchmark, for report and compare.

    What such a file lacks stays absent: it has no epoch digests, calibration times or weights,
    so only raw times can be compared.
    """,
)
@click.argument("file", metavar="FILE")
@OUT
@named("it")
@ANONYMOUS
@JSON
def import_(**options: Any) -> int:
    """Run the command `import`; the answer is its exit code."""
    require("import", "run", "scipy", "matplotlib")
    from xorbench.xor.report.pytest_benchmark import ImportRequest
    from xorbench.xor.report.pytest_benchmark import import_ as command

    request = ImportRequest(
        file=options["file"],
        command=command_line(options["anonymous"]),
        root=options["out"],
        name=options["name"],
        anonymous=options["anonymous"],
    )
    return print_outcome(command(request), options)
