"""`canary`: check that each device computes correctly."""

from functools import partial
from typing import Any, Final

import click

from xorbench.cli.options import (
    MACHINE_THRESHOLD,
    OUT,
    REQUIRE_DEVICES,
    option,
    outputs,
    refuse_given,
    timeout_option,
    with_faults,
    writable,
)
from xorbench.cli.printing import echo, exports_of, note, print_shown
from xorbench.errors import BadOption
from xorbench.extras import require
from xorbench.machine.probes.table import read_probes
from xorbench.options import parse
from xorbench.options.program_options import request
from xorbench.xor.matrix.axes import read_devices

LEAST_MEMORY: Final = 2**20


@click.command(
    help="""Check in seconds that each device computes correctly.

    The expected digests are the same on every machine.
    """,
)
@option(
    "--devices", "LIST", "Check the devices in LIST [the CPU and every accelerator]", read_devices
)
@option("--probes", "LIST", "Run the probes in LIST; see docs/probes.md [all]")
@option(
    "--burn-in",
    "SECONDS",
    "Load all devices for SECONDS and verify every result",
    parse.positive,
    high=10_000_000.0,
)
@option(
    "--memory",
    "SIZE",
    "Write SIZE of memory in the burn-in, such as 8GiB",
    parse.size,
    least=LEAST_MEMORY,
)
@option(
    "--prometheus", "FILE", "Write metrics to FILE for node_exporter's textfile collector", writable
)
@click.option("--operators", is_flag=True, help="Judge the operators of small models instead.")
@click.option("--strict", is_flag=True, help="With --operators: known defects of PyTorch fail.")
@click.option("--save", is_flag=True, help="Save the calibration time of this machine.")
@MACHINE_THRESHOLD
@timeout_option()
@REQUIRE_DEVICES
@OUT
@outputs
@with_faults()
def canary(**options: Any) -> int:
    """Run the command `canary` and return its exit code."""
    if options["operators"]:
        return _operators(options)
    if options["strict"]:
        raise BadOption("--strict: needs --operators")
    require("canary", "all", "torch", "numba")
    if options["burn_in"] is not None:
        require("canary --burn-in", "all", "scipy")
    if options["prometheus"] is not None:
        require("canary --prometheus", "all", "prometheus_client")
    from xorbench.machine.canary.canary import canary as command

    canary_request, exports = _request(options), exports_of(options)
    metrics = options["prometheus"]
    outcome = command(canary_request, note)
    from xorbench.machine.canary import report  # slow to import, so while the processes start

    if metrics:
        from xorbench.machine.canary.metrics import write

        write(metrics, outcome)
    echo(report.as_json(outcome) if options["as_json"] else report.text(outcome))
    markdown = partial(report.markdown, outcome)
    note(exports.write(outcome.verdicts, "canary", markdown, markdown))
    return outcome.exit_code


def _operators(options: dict[str, Any]) -> int:
    """Judge the operators of the packaged models on each device, by the question of `check`."""
    from xorbench.programs import outputs as check_outputs
    from xorbench.programs.experiment import ask
    from xorbench.programs.questions.operators import of_models
    from xorbench.verdicts import Verdict, exit_code

    others = {"probes", "burn_in", "memory", "prometheus", "save", "machine_threshold"}
    refuse_given(others, "cannot be given with --operators")
    exports, verdicts = exports_of(options), list[Verdict]()
    for device in options["devices"] or ("cpu",):
        question = of_models(device, options["out"], strict=options["strict"])
        outcome = ask(question, note)
        print_shown(check_outputs.write(outcome, exports, as_json=options["as_json"]))
        verdicts += outcome.judgement.verdicts
    return exit_code(verdicts)


def _request(options: dict[str, Any]) -> Any:
    from xorbench.machine.canary.canary import CanaryRequest

    if options["memory"] is not None and options["burn_in"] is None:
        raise BadOption("--memory: needs --burn-in", "for example --burn-in 60 --memory 8GiB")
    return request(
        CanaryRequest,
        options,
        burn_in_s=options["burn_in"],
        probes=read_probes("--probes", options["probes"]),
        root=options["out"],
        timeout_s=options["timeout"],
        faults=options["inject"],
    )
