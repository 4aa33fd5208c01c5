"""`sweep`: many seeds of the universal training."""

from typing import Any

import click

from xorbench.cli.options import (
    JSON,
    JUNIT,
    MARKDOWN,
    ROOT,
    VERBOSE,
    command_line,
    name_of,
    recipe_of,
    recipe_options,
    refuse_beside_resume,
    root_of,
    timeout_of,
)
from xorbench.cli.printing import exports_of, print_outcome, progress
from xorbench.plan import parse
from xorbench.plan.case import read_device
from xorbench.plan.sweep import BACKENDS, LARGEST_CHUNK, SWEEP_OPTIONS, read_seeds


@click.command(
    help="Train many seeds to universal bits; count those that learn XOR, and how soon.",
)
@click.option("--seeds", default="0-1023", metavar="LIST", help="Such as 0-65535 [0-1023].")
@click.option("--batch-sizes", default="128", metavar="LIST", help="Points per step [128].")
@click.option("--drop-last", default="true", metavar="VALUE", help="Drop the short batch [true].")
@recipe_options(SWEEP_OPTIONS)
@click.option("--backend", metavar="NAME", help=f"{', '.join(BACKENDS)}; the fastest by default.")
@click.option("--device", default="cpu", metavar="NAME", help="Where to train, such as cuda [cpu].")
@click.option("--threads", metavar="N", help="CPU threads; every core by default.")
@click.option("--chunk", metavar="N", help="Seeds trained and kept at once.")
@click.option("--timeout", default="600", metavar="S", help="Seconds to wait for a chunk [600].")
@ROOT
@click.option("--name", metavar="NAME", help="A name to find the sweep by.")
@click.option("--anonymous", is_flag=True, help="No host name, absolute path or UUID in the files.")
@click.option("--resume", metavar="RUN", help="Bring a sweep that was stopped to its end.")
@VERBOSE
@JUNIT
@MARKDOWN
@JSON
def sweep(**options: Any) -> int:
    """Run the command `sweep`; the answer is its exit code."""
    from xorbench.commands import sweep as command

    if options["resume"] is not None:
        refuse_beside_resume()
        exports = exports_of(options)
        outcome = command.resume(root_of(options["out"]), options["resume"], progress())
    else:
        request = _sweep_request(options)
        exports = exports_of(options)
        outcome = command.sweep(request, progress())
    return print_outcome(outcome, options["as_json"], exports, verbose=options["verbose"])


def _sweep_request(options: dict[str, Any]) -> Any:
    from xorbench.commands.sweep import SweepRequest

    backend, threads, chunk = options["backend"], options["threads"], options["chunk"]
    return SweepRequest(
        recipe=recipe_of(options, SWEEP_OPTIONS),
        batch_sizes=parse.integers("--batch-sizes", options["batch_sizes"], 1, 10_000_000),
        drop_last=parse.truth("--drop-last", options["drop_last"], "true"),
        seeds=read_seeds("--seeds", options["seeds"]),
        command=command_line(options["anonymous"]),
        root=root_of(options["out"]),
        name=name_of(options["name"]),
        backend=None if backend is None else parse.word("--backend", backend, BACKENDS),
        device=read_device("--device", options["device"]),
        threads=None if threads is None else parse.integer("--threads", threads, 1, 1_024),
        chunk=None if chunk is None else parse.integer("--chunk", chunk, 1, LARGEST_CHUNK),
        timeout_s=timeout_of(options),
        anonymous=options["anonymous"],
    )
