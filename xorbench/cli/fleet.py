"""`fleet`: check many ranks, and find the outliers."""

from pathlib import Path
from typing import Any

import click

from xorbench.cli.atlas import atlas
from xorbench.cli.groups import CommandWithSubcommands
from xorbench.cli.options import (
    batch_sizes_option,
    command_line,
    option,
    outputs,
    processes_option,
    read_path,
    recipe_of,
    recipe_options,
    timeout_option,
)
from xorbench.cli.printing import exports_of, note, print_outcome
from xorbench.errors import BadOption
from xorbench.extras import require
from xorbench.options import parse
from xorbench.xor.matrix.recipe import RECIPE_OPTIONS


def _subcommands(_context: click.Context, _argument: click.Parameter, text: str) -> list[str]:
    return [name for name in fleet.commands if name.startswith(text)]


@click.group(
    cls=CommandWithSubcommands,
    help="""Check many machines: which ranks differ, are slow, or are missing.

    Start it with torchrun or srun: each rank uses its own device. Without them the fleet has one
    rank. --out receives fleet.json, fleet.md, fleet.html and cordon.txt (the nodes to isolate).
    """,
)
@click.option("--merge", is_flag=True, help="Judge the run folders DIR …, train nothing.")
@click.argument("folders", metavar="[DIR …]", nargs=-1, shell_complete=_subcommands)
@option("--out", "DIR", "Store results in DIR, a new folder", parse.folder, "fleet")
@batch_sizes_option("32,128")
@recipe_options(RECIPE_OPTIONS)
@processes_option("1", low=1)
@click.option("--no-collective", is_flag=True, help="Skip the joint training of all ranks.")
@option("--deadline", "S", "Wait at most S seconds for the ranks", parse.positive, "600", high=1e7)
@timeout_option()
@option(
    "--slow-threshold",
    "X",
    "Report devices slower than X times the median",
    parse.real,
    "1.1",
    low=1,
    high=1e6,
)
@option("--atlas", "FILE", "Compare every rank with the atlas in FILE", read_path)
@click.option(
    "--baseline",
    metavar="FILE",
    type=Path,
    help="Report whether the fleet is slower than in FILE, an earlier fleet.json.",
)
@outputs
@click.option("--inject", multiple=True, hidden=True)
def fleet(**options: Any) -> int:
    """Run the command `fleet` and return its exit code."""
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


fleet.add_command(atlas)


def _take_part(options: dict[str, Any], references: Any) -> int:
    """Run as one rank of a fleet; only rank 0 prints the result."""
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
