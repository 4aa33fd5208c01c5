"""`fleet`: many ranks, and who is odd."""

from pathlib import Path
from typing import Any

import click

from xorbench.cli.options import (
    JSON,
    JUNIT,
    MARKDOWN,
    command_line,
    recipe_of,
    recipe_options,
    root_of,
    timeout_of,
)
from xorbench.cli.printing import exports_of, note, print_outcome
from xorbench.errors import BadOption
from xorbench.plan import parse
from xorbench.plan.recipe import RECIPE_OPTIONS


@click.command(
    help="""Judge many machines: who computes other bits, who is slow, who is missing.

    Started by torchrun or srun each rank drives its own device; alone it is a fleet of one.
    fleet.json, fleet.md, fleet.html and cordon.txt (the nodes to isolate) are written to --out.
    """,
)
@click.option("--merge", is_flag=True, help="Judge the run folders that are named, train nothing.")
@click.argument("folders", metavar="[DIR …]", nargs=-1)
@click.option("--out", default="fleet", metavar="DIR", help="A new folder for all of it [fleet].")
@click.option("--batch-sizes", default="32,128", metavar="LIST", help="Points per step [32,128].")
@recipe_options(RECIPE_OPTIONS)
@click.option("--processes", default="1", metavar="N", help="Fresh processes for each case [1].")
@click.option("--no-collective", is_flag=True, help="Leave out the training of all ranks together.")
@click.option("--deadline", default="600", metavar="S", help="Seconds to wait for the ranks [600].")
@click.option("--timeout", default="120", metavar="S", help="Seconds to wait for one answer [120].")
@click.option(
    "--slow-threshold",
    default="1.1",
    metavar="X",
    help="A device is slow beyond X medians [1.1].",
)
@click.option("--atlas", metavar="FILE", help="Compare every rank with the digests on record.")
@click.option("--baseline", metavar="FILE", help="An earlier fleet.json: is all of it slower?")
@JUNIT
@MARKDOWN
@JSON
@click.option("--inject", multiple=True, hidden=True)
def fleet(**options: Any) -> int:
    """Run the command `fleet`; the answer is its exit code."""
    from xorbench.commands import fleet as command

    out = root_of(options["out"])
    threshold = parse.real("--slow-threshold", options["slow_threshold"], 1, 1e6)
    if options["merge"] != bool(options["folders"]):
        raise BadOption("--merge: needs the run folders to judge", "fleet --merge DIR …")
    files = _path(options["atlas"]), _path(options["baseline"])
    references = command.read_references(command_line(anonymous=False), threshold, *files)
    if not options["merge"]:
        return _take_part(options, out, references)
    exports = exports_of(options)
    outcome = command.merge([Path(folder) for folder in options["folders"]], out, references, note)
    return print_outcome(outcome, options["as_json"], exports)


def _take_part(options: dict[str, Any], out: Path, references: Any) -> int:
    """Do this rank's share; only rank 0 has something to show."""
    from xorbench.commands import ranks as command
    from xorbench.commands.run import RunRequest

    command.require_faults(options["inject"])
    batches = parse.integers("--batch-sizes", options["batch_sizes"], 1, 10_000_000)
    request = RunRequest(
        recipe=recipe_of(options, RECIPE_OPTIONS),
        axes={"batch_size": batches, "pin_memory": (False,), "drop_last": (True,)},
        command=references.command,
        root=out,
        quick=True,
        processes_per_config=parse.integer("--processes", options["processes"], 1, 64),
        timeout_s=timeout_of(options),
        faults=options["inject"],
    )
    deadline_s = parse.positive("--deadline", options["deadline"], 1e7)
    collective = not options["no_collective"]
    fleet_request = command.FleetRequest(request, references, deadline_s, collective)
    place = command.rank_place()
    exports = exports_of(options) if place.rank == 0 else None
    outcome = command.take_part(fleet_request, place, note)
    if isinstance(outcome, int):
        return outcome
    return print_outcome(outcome, options["as_json"], exports)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
