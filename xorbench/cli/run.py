"""`run`: the matrix of the XOR training."""

from typing import Any

import click

from xorbench.cli.options import (
    JSON,
    JUNIT,
    MARKDOWN,
    ROOT,
    VERBOSE,
    command_line,
    joined,
    name_of,
    plan_options,
    recipe_of,
    refuse_beside_resume,
    require_faults,
    root_of,
    timeout_of,
)
from xorbench.cli.printing import exports_of, print_outcome, print_preview, progress
from xorbench.plan import parse
from xorbench.plan.axes import AXES
from xorbench.plan.matrix import STRESSES
from xorbench.plan.processes import read_processes
from xorbench.plan.recipe import RECIPE_OPTIONS


@click.command(
    help="Train the matrix, check it, and write the report.",
)
@plan_options
@click.option("--quick", is_flag=True, help="Batch size 128 only: two cases, full epochs.")
@click.option("--processes", metavar="N", help="Fresh processes for each case [2].")
@click.option(
    "--precision",
    metavar="X",
    help="Add processes, up to --processes [10], until all intervals of speed are within X.",
)
@click.option("--no-phases", is_flag=True, help="Do not time the phases of an epoch.")
@click.option("--timeout", default="120", metavar="S", help="Seconds to wait for one answer [120].")
@click.option("--schedule-seed", default="0", metavar="N", help="Seed of the interleaving [0].")
@ROOT
@click.option("--name", metavar="NAME", help="A name to find the run by.")
@click.option("--baseline", metavar="NAME", help="Compare with this saved baseline: slower fails.")
@click.option("--require-devices", is_flag=True, help="A missing device of --devices: exit code 4.")
@click.option("--stress", metavar="WHAT", help="Keep it busy meanwhile: cpu, memory, accelerator.")
@click.option("--save-weights", is_flag=True, help="Keep each trained state_dict as a file.")
@click.option("--anonymous", is_flag=True, help="No host name, absolute path or UUID in the files.")
@click.option("--dry-run", is_flag=True, help="Show the cases and an estimate, train nothing.")
@click.option("--resume", metavar="RUN", help="Bring a run that was stopped to its end.")
@VERBOSE
@JUNIT
@MARKDOWN
@JSON
@click.option("--inject", multiple=True, hidden=True)
def run(**options: Any) -> int:
    """Run the command `run`; the answer is its exit code."""
    from xorbench.commands import run as command

    if options["resume"] is not None:
        refuse_beside_resume()
        exports = exports_of(options)
        outcome = command.resume(root_of(options["out"]), options["resume"], progress())
        return print_outcome(outcome, options["as_json"], exports, verbose=options["verbose"])
    request = _request(options)
    if options["dry_run"]:
        from xorbench.commands.preview import preview

        return print_preview(preview(request), options["as_json"])
    exports = exports_of(options)
    return print_outcome(
        command.run(request, progress()), options["as_json"], exports, verbose=options["verbose"]
    )


def _request(options: dict[str, Any]) -> Any:
    from xorbench.commands.run import RunRequest

    axes = {
        axis.name: axis.read(axis.option, joined(options[axis.name]))
        for axis in AXES
        if options[axis.name] not in (None, ())
    }
    require_faults(options["inject"])
    processes = read_processes(options["processes"], options["precision"])
    return RunRequest(
        recipe=recipe_of(options, RECIPE_OPTIONS),
        axes=axes,
        command=command_line(options["anonymous"]),
        root=root_of(options["out"]),
        name=name_of(options["name"]),
        quick=options["quick"],
        processes_per_config=processes.first,
        most_processes=processes.most,
        precision=processes.precision,
        phases=not options["no_phases"],
        timeout_s=timeout_of(options),
        schedule_seed=parse.integer("--schedule-seed", options["schedule_seed"], 0, 2**31 - 1),
        faults=options["inject"],
        baseline=options["baseline"],
        require_devices=options["require_devices"],
        save_weights=options["save_weights"],
        stress=None
        if options["stress"] is None
        else parse.word("--stress", options["stress"], STRESSES),
        anonymous=options["anonymous"],
    )
