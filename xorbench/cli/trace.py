"""`trace`: record a program, or a case, step by step."""

from typing import Any

import click

from xorbench.cli.options import (
    WithCommand,
    answer_timeout_of,
    is_program,
    option,
    program_of,
    program_options,
    recipe_of,
    recipe_options,
    refuse_given,
    refuse_options_of_programs,
    with_faults,
    writable,
)
from xorbench.cli.printing import echo, note
from xorbench.errors import CHECK_FAILED, BadOption
from xorbench.options import parse
from xorbench.options.program_options import complete, options_of, request
from xorbench.xor.matrix.recipe import RECIPE_OPTIONS


@click.command(
    cls=WithCommand,
    help="""Record a training step by step: a digest of every tensor. diff compares two traces.

    CASE is the id of a case in a report, or a case of a run (latest:cpu-loader-…). CMD is your
    training; it runs in this folder, as without xorbench.
    """,
)
@click.argument("target", metavar="(CASE | -- CMD … | MODULE:FUNCTION)", nargs=-1)
@click.option(
    *("-o", "--output"),
    required=True,
    metavar="FILE",
    help="Write the trace to FILE.",
)
@option(
    "--epoch",
    "EPOCHS",
    "Record EPOCHS, such as 3-5 [all]",
    parse.integers,
    low=0,
    high=1_000_000,
)
@option(
    "--dump-steps",
    "STEPS",
    "Store whole tensors in STEPS of each epoch, such as 7-9",
    parse.single_range,
    low=0,
    high=10_000_000,
)
@program_options(
    "trace", "steps", "detail", "up_to_rounding", "max_record", "with_source", "anonymous"
)
@recipe_options(RECIPE_OPTIONS)
@program_options("trace", "timeout", "out")
@with_faults()
def trace(**options: Any) -> int:
    """Run the command `trace` and return its exit code."""
    if is_program(options["target"]):
        return _trace_program(options)
    case = program_of(options["target"])["target"]
    refuse_options_of_programs("cannot be used with a case")
    return _trace_case(options, case)


def _trace_program(options: dict[str, Any]) -> int:
    from xorbench.programs.questions import trace as command

    program = program_of(options["target"])
    recipe = [row.field for row in RECIPE_OPTIONS]
    refuse_given(("epoch", "dump_steps", "inject", *recipe), "cannot be used with a command")
    values = complete(options_of("trace"), options)
    _require_recorded(values["detail"], values["steps"])
    output = writable("--output", options["output"])
    outcome = command.trace_command(
        request(command.TraceCommandRequest, values, output=output, **program)
    )
    for path, count in outcome.files:
        note(f"{path}: {count} steps, {path.stat().st_size / 1_000:,.0f} kB")
    note(outcome.message)
    return outcome.exit_code


def _require_recorded(detail: tuple[int, int] | None, steps: int | None) -> None:
    """Raise `BadOption` if --detail contains a step that is not recorded."""
    if detail is not None and steps is not None and detail[1] >= steps:
        message = f"--detail: step {detail[1]} of --steps {steps}"
        raise BadOption(message, f"steps count from 0: give steps of 0-{steps - 1}")


def _trace_case(options: dict[str, Any], case: str) -> int:
    from xorbench.xor.trace.trace import TraceRequest
    from xorbench.xor.trace.trace import trace as command

    output = writable("--output", options["output"])
    case_trace, diverged = command(
        TraceRequest(
            text=case,
            output=output,
            recipe=recipe_of(options, RECIPE_OPTIONS),
            root=options["out"],
            epochs=options["epoch"],
            valued=options["dump_steps"] or range(0),
            timeout_s=answer_timeout_of(options),
            faults=options["inject"],
        )
    )
    echo(f"{output}: {len(case_trace.epochs)} epochs, {output.stat().st_size / 1_000:,.0f} kB")
    if diverged is None:
        return 0
    echo(f"the trace diverges from the recorded run in epoch {diverged}")
    return CHECK_FAILED
