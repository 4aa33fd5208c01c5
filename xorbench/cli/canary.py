"""`canary`: does each device compute right?"""

from functools import partial
from typing import Any, Final

import click

from xorbench.cli.options import (
    JSON,
    JUNIT,
    MARKDOWN,
    ROOT,
    require_faults,
    root_of,
    timeout_of,
    writable,
)
from xorbench.cli.printing import exports_of, note, say
from xorbench.errors import BadOption
from xorbench.plan import parse
from xorbench.plan.axes import read_devices
from xorbench.plan.probes import read_probes

LEAST_MEMORY: Final = 2**20


@click.command(
    help="Say in seconds whether each device computes right, from one digest for every machine.",
)
@click.option("--devices", metavar="LIST", help="The CPU and every accelerator by default.")
@click.option("--probes", metavar="LIST", help="What to check; see docs/probes.md [all].")
@click.option("--burn-in", metavar="SECONDS", help="Keep all devices busy, verify everything.")
@click.option("--memory", metavar="SIZE", help="Memory that a burn-in writes, such as 8GiB.")
@click.option(
    "--prometheus", metavar="FILE", help="Metrics for node_exporter's textfile collector."
)
@click.option("--save", is_flag=True, help="Save the calibration time of this machine.")
@click.option(
    "--machine-threshold", default="1.5", metavar="X", help="Slower by this factor fails [1.5]."
)
@click.option("--timeout", default="120", metavar="S", help="Seconds to wait for one answer [120].")
@click.option("--require-devices", is_flag=True, help="Exit with 4 if a device is missing.")
@ROOT
@JUNIT
@MARKDOWN
@JSON
@click.option("--inject", multiple=True, hidden=True)
def canary(**options: Any) -> int:
    """Run the command `canary`; the answer is its exit code."""
    from xorbench.commands.canary import canary as command

    request, exports = _canary_request(options), exports_of(options)
    metrics = options["prometheus"] and writable("--prometheus", options["prometheus"])
    outcome = command(request, note)
    from xorbench.report import canary as report  # slow to import: while the processes start

    if metrics:
        from xorbench.report.metrics import write

        write(metrics, outcome)
    say(report.as_json(outcome) if options["as_json"] else report.text(outcome))
    markdown = partial(report.markdown, outcome)
    note(exports.write(outcome.verdicts, "canary", markdown, markdown))
    return outcome.exit_code


def _canary_request(options: dict[str, Any]) -> Any:
    from xorbench.commands.canary import CanaryRequest

    burn_in, memory, devices = options["burn_in"], options["memory"], options["devices"]
    if memory is not None and burn_in is None:
        raise BadOption("--memory: needs --burn-in", "for example --burn-in 60 --memory 8GiB")
    require_faults(options["inject"])
    return CanaryRequest(
        devices=None if devices is None else read_devices("--devices", devices),
        probes=read_probes("--probes", options["probes"]),
        burn_in_s=None if burn_in is None else parse.positive("--burn-in", burn_in, 10_000_000.0),
        memory=None if memory is None else parse.size("--memory", memory, LEAST_MEMORY),
        root=root_of(options["out"]),
        save=options["save"],
        machine_threshold=parse.real("--machine-threshold", options["machine_threshold"], 1, 1e6),
        timeout_s=timeout_of(options),
        require_devices=options["require_devices"],
        faults=options["inject"],
    )
