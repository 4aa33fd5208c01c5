"""`sweep`: many seeds of the universal training."""

from typing import Any

import click

from xorbench.cli.options import (
    ANONYMOUS,
    OUT,
    VERBOSE,
    answered_within,
    command_line,
    named,
    option,
    outputs,
    recipe_of,
    recipe_options,
    refuse_beside_resume,
)
from xorbench.cli.printing import exports_of, print_outcome, progress
from xorbench.extras import require
from xorbench.machine.universal.sweep_plan import BACKENDS, LARGEST_CHUNK, SWEEP_OPTIONS, read_seeds
from xorbench.options import parse
from xorbench.options.program_options import request
from xorbench.xor.matrix.case import read_device


@click.command(
    help="Train many seeds to universal bits; count those that learn XOR, and how soon.",
)
@option("--seeds", "LIST", "Such as 0-65535", read_seeds, "0-1023")
@option("--batch-sizes", "LIST", "Points per step", parse.integers, "128", low=1, high=10_000_000)
@option("--drop-last", "VALUE", "Drop the short batch", parse.truth, "true", example="true")
@recipe_options(SWEEP_OPTIONS)
@option(
    "--backend",
    "NAME",
    f"{', '.join(BACKENDS)}; the fastest by default",
    parse.word,
    choices=BACKENDS,
)
@option("--device", "NAME", "Where to train, such as cuda", read_device, "cpu")
@option("--threads", "N", "CPU threads; every core by default", parse.integer, low=1, high=1_024)
@option("--chunk", "N", "Seeds trained and kept at once", parse.integer, low=1, high=LARGEST_CHUNK)
@answered_within("600", "a chunk")
@OUT
@named("the sweep")
@ANONYMOUS
@option("--resume", "RUN", "Bring a sweep that was stopped to its end")
@VERBOSE
@outputs
def sweep(**options: Any) -> int:
    """Run the command `sweep`; the answer is its exit code."""
    require("sweep", "all", "scipy", "matplotlib", "rich")
    from xorbench.machine.sweep import sweep as command

    if options["resume"] is not None:
        refuse_beside_resume()
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
