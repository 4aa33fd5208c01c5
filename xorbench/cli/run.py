"""`run`: train and check the matrix of XOR cases."""

from typing import Any

import click

from xorbench.cli.options import (
    ANONYMOUS,
    NAME,
    OUT,
    REQUIRE_DEVICES,
    RESUME,
    VERBOSE,
    axis_options,
    command_line,
    option,
    outputs,
    recipe_of,
    recipe_options,
    refuse_with_resume,
    timeout_option,
    with_faults,
)
from xorbench.cli.printing import echo, exports_of, print_outcome, progress
from xorbench.extras import require
from xorbench.options import parse
from xorbench.options.program_options import request
from xorbench.xor.matrix.axes import AXES
from xorbench.xor.matrix.matrix import STRESSES
from xorbench.xor.matrix.process_count import read_processes
from xorbench.xor.matrix.recipe import RECIPE_OPTIONS


@click.command(
    help="Train the matrix of XOR cases, check the results and write a report.",
)
@axis_options
@recipe_options(RECIPE_OPTIONS)
@click.option("--quick", is_flag=True, help="Train only batch size 128: two cases, full epochs.")
@option("--processes", "N", "Train each case in N fresh processes [2]")
@option(
    "--precision",
    "X",
    "Add processes, up to --processes [10], until every 95% interval of samples/s is within ±X",
)
@click.option("--no-phases", is_flag=True, help="Do not time the phases of an epoch.")
@timeout_option()
@option(
    "--schedule-seed",
    "N",
    "Seed the interleaving with N",
    parse.integer,
    "0",
    low=0,
    high=2**31 - 1,
)
@OUT
@NAME
@option("--baseline", "NAME", "Compare with the saved baseline NAME, and fail if slower")
@REQUIRE_DEVICES
@option(
    "--stress",
    "WHAT",
    "Generate load during the run: cpu, memory or accelerator",
    parse.word,
    choices=STRESSES,
)
@click.option("--save-weights", is_flag=True, help="Save each trained state_dict.")
@ANONYMOUS
@click.option("--dry-run", is_flag=True, help="Print the cases and a time estimate, train nothing.")
@RESUME
@VERBOSE
@outputs
@with_faults()
def run(**options: Any) -> int:
    """Run the command `run` and return its exit code."""
    own_pytorch = () if options["python"] is not None else ("torch",)
    require("run", "run", "scipy", "matplotlib", "rich", *own_pytorch)
    from xorbench.xor.run import run as command

    if options["resume"] is not None:
        refuse_with_resume()
        exports = exports_of(options)
        outcome = command.resume(options["out"], options["resume"], progress())
        return print_outcome(outcome, options, exports)
    run_request = _request(options)
    if options["dry_run"]:
        from xorbench.report import document
        from xorbench.xor.run.preview import preview

        show = document.preview_json if options["as_json"] else document.preview_text
        echo(show(preview(run_request)))
        return 0
    exports = exports_of(options)
    return print_outcome(command.run(run_request, progress()), options, exports)


def _request(options: dict[str, Any]) -> Any:
    from xorbench.xor.run.run import RunRequest

    processes = read_processes(options["processes"], options["precision"])
    return request(
        RunRequest,
        options,
        recipe=recipe_of(options, RECIPE_OPTIONS),
        axes={axis.name: options[axis.name] for axis in AXES if options[axis.name] is not None},
        command=command_line(options["anonymous"]),
        root=options["out"],
        processes_per_config=processes.first,
        most_processes=processes.most,
        precision=processes.precision,
        phases=not options["no_phases"],
        timeout_s=options["timeout"],
        faults=options["inject"],
    )
