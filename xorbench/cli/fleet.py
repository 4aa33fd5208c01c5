"""`fleet`: many ranks, and who is odd."""

from pathlib import Path
from typing import Any

import click

from xorbench.cli.options import (
    answered_within,
    command_line,
    option,
    outputs,
    read_path,
    recipe_of,
    recipe_options,
)
from xorbench.cli.printing import exports_of, note, print_outcome
from xorbench.errors import BadOption
from xorbench.extras import require
from xorbench.options import parse
from xorbench.xor.matrix.recipe import RECIPE_OPTIONS


@click.command(
    help="""Judge many machines: who computes other bits, who is slow, who is missing.

    Started by torchrun or srun each rank drives its own device; alone it is a fleet of one.
    fleet.json, fleet.md, fleet.html and cordon.txt (the nodes to isolate) are written to --out.
    """,
)
@click.option("--merge", is_flag=True, help="Judge the run folders that are named, train nothing.")
@click.argument("folders", metavar="[DIR …]", nargs=-1)
@option("--out", "DIR", "A new folder for all of it", parse.folder, "fleet")
@option(
    "--batch-sizes", "LIST", "Points per step", parse.integers, "32,128", low=1, high=10_000_000
)
@recipe_options(RECIPE_OPTIONS)
@option("--processes", "N", "Fresh processes for each case", parse.integer, "1", low=1, high=64)
@click.option("--no-collective", is_flag=True, help="Leave out the training of all ranks together.")
@option("--deadline", "S", "Seconds to wait for the ranks", parse.positive, "600", high=1e7)
@answered_within()
@option(
    "--slow-threshold", "X", "A device is slow beyond X medians", parse.real, "1.1", low=1, high=1e6
)
@option("--atlas", "FILE", "Compare every rank with the digests on record", read_path)
@click.option(
    "--baseline", metavar="FILE", type=Path, help="An earlier fleet.json: is all of it slower?"
)
@outputs
@click.option("--inject", multiple=True, hidden=True)
def fleet(**options: Any) -> int:
    """Run the command `fleet`; the answer is its exit code."""
    require("fleet", "all", "scipy", "matplotlib")
    from xorbench.fleet import fleet as command

    if options["merge"] != bool(options["folders"]):
        raise BadOption("--merge: needs the run folders to judge", "fleet --merge DIR …")
    references = command.read_references(
        command_line(anonymous=False),
        *(options[name] for name in ("slow_threshold", "atlas", "baseline")),
    )
    if not options["merge"]:
        return _take_part(options, references)
    exports = exports_of(options)
    folders = [Path(folder) for folder in options["folders"]]
    outcome = command.merge(folders, options["out"], references, note)
    return print_outcome(outcome, options, exports)


def _take_part(options: dict[str, Any], references: Any) -> int:
    """Do this rank's share; only rank 0 has something to show."""
    require("fleet", "all", "torch", "numba")
    from xorbench.fleet import ranks as command
    from xorbench.xor.run.run import RunRequest

    command.require_faults(options["inject"])
    request = RunRequest(
        recipe=recipe_of(options, RECIPE_OPTIONS),
        axes={"batch_size": options["batch_sizes"], "pin_memory": (False,), "drop_last": (True,)},
        command=references.command,
        root=options["out"],
        quick=True,
        processes_per_config=options["processes"],
        timeout_s=options["timeout"],
        faults=options["inject"],
    )
    fleet_request = command.FleetRequest(
        request, references, options["deadline"], not options["no_collective"]
    )
    place = command.rank_place()
    exports = exports_of(options) if place.rank == 0 else None
    outcome = command.take_part(fleet_request, place, note)
    if isinstance(outcome, int):
        return outcome
    return print_outcome(outcome, options, exports)
