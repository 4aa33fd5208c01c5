"""`sweep`: train many seeds of the universal training."""

from typing import Any

import click

from xorbench.cli.options import (
    ANONYMOUS,
    NAME,
    OUT,
    RESUME,
    VERBOSE,
    batch_sizes_option,
    command_line,
    option,
    outputs,
    recipe_of,
    recipe_options,
    refuse_with_resume,
    timeout_option,
)
from xorbench.cli.printing import exports_of, print_outcome, progress
from xorbench.extras import require
from xorbench.machine.universal.sweep_plan import BACKENDS, LARGEST_CHUNK, SWEEP_OPTIONS, read_seeds
from xorbench.options import parse
from xorbench.options.program_options import request
from xorbench.xor.matrix.case import read_device


@click.command(
    help="""Train many seeds, count those that learn XOR, and report how fast they learn.

    The training is universal: its results are bitwise identical on every machine.
    """,
)
@option("--seeds", "LIST", "Train each seed in LIST, such as 0-65535", read_seeds, "0-1023")
@batch_sizes_option("128")
@option(
    "--drop-last",
    "VALUE",
    "Drop the short last batch: true or false",
    parse.truth,
    "true",
    example="true",
)
@recipe_options(SWEEP_OPTIONS)
@option(
    "--backend",
    "NAME",
    f"Train with backend NAME: {', '.join(BACKENDS)} [the fastest]",
    parse.word,
    choices=BACKENDS,
)
@option("--device", "NAME", "Train on device NAME, such as cuda", read_device, "cpu")
@option("--threads", "N", "Use N CPU threads [every core]", parse.integer, low=1, high=1_024)
@option("--chunk", "N", "Train N seeds at a time", parse.integer, low=1, high=LARGEST_CHUNK)
@timeout_option("600", "a chunk")
@OUT
@NAME
@ANONYMOUS
@RESUME
@VERBOSE
@outputs
def sweep(**options: Any) -> int:
    """Run the command `sweep` and return its exit code."""
    require("sweep", "all", "scipy", "matplotlib", "rich")
    from xorbench.machine.sweep import sweep as command

    if options["resume"] is not None:
        refuse_with_resume()
        exports = exports_of(options)
        outcome = command.resume(options["out"], options["resume"], progress())
    else:
        sweep_request = _request(options)
        exports = exports_of(options)
        outcome = command.sweep(sweep_request, progress())
    return print_outcome(outcome, options, exports)


def _request(options: dict[str, Any]) -> Any:
    from xorbench.machine.sweep.sweep import SweepRequest

    return request(
        SweepRequest,
        options,
        recipe=recipe_of(options, SWEEP_OPTIONS),
        command=command_line(options["anonymous"]),
        root=options["out"],
        timeout_s=options["timeout"],
    )
