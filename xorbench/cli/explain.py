"""`explain`: find the settings that change the result."""

import json
from dataclasses import asdict
from typing import Any

import click

from xorbench.cli.options import (
    WithCommand,
    answer_timeout_of,
    command_line,
    is_program,
    option,
    outputs,
    program_of,
    program_options,
    read_text,
    recipe_of,
    recipe_options,
    refuse_given,
    refuse_options_of_programs,
    with_faults,
)
from xorbench.cli.printing import echo, exports_of, note, print_shown
from xorbench.errors import BadOption
from xorbench.extras import require
from xorbench.options import parse
from xorbench.options.program_options import complete, options_of, request
from xorbench.xor.matrix.recipe import RECIPE_OPTIONS


@click.command(
    cls=WithCommand,
    help="""Find the settings that make your training reproducible, or that make two cases differ.

    With CMD: run CMD repeatedly to find the switches that make every run identical. With A and B:
    find the settings that make them differ. A and B are cases with a config (CASE@threads=2,
    CASE@env=ATEN_CPU_CAPABILITY=default), trainings of runs (latest:CASE), or files written by
    trace.
    """,
)
@click.argument("target", metavar="(A B | -- CMD … | MODULE:FUNCTION)", nargs=-1)
@recipe_options(RECIPE_OPTIONS)
@option("--max-trainings", "N", "With A B: train at most N times", read_text, "100")
@program_options(
    *("explain", "against", "up_to_rounding", "env", "processes", "max_runs", "no_cost", "skip"),
    *("steps", "in_place", "exclude", "link", "max_copy", "max_record", "dry_run", "name"),
    *("timeout", "anonymous", "out"),
)
@outputs
@with_faults("--inject-a")
@with_faults("--inject-b")
def explain(**options: Any) -> int:
    """Run the command `explain` and return its exit code."""
    target: tuple[str, ...] = options["target"]
    if is_program(target):
        return _explain_program(options)
    if len(target) != 2:
        hint = "explain A B, or for your training: explain -- python train.py"
        raise BadOption(f"explain: {len(target)} cases given, not A and B", hint)
    return _explain_cases(options)


def _explain_program(options: dict[str, Any]) -> int:
    from xorbench.programs.experiment import ask
    from xorbench.programs.questions.explain import FixRequest
    from xorbench.programs.questions.rerun import CheckRequest
    from xorbench.programs.questions.rounding import RoundingExplanation

    exports = exports_of(options)
    recipe = [row.field for row in RECIPE_OPTIONS]
    refuse_given(
        ("max_trainings", "inject_a", "inject_b", *recipe), "cannot be used with a command"
    )
    values = complete(options_of("explain"), options)
    check = request(CheckRequest, values, **program_of(options["target"]))
    question: RoundingExplanation | FixRequest
    if values["up_to_rounding"]:
        question = request(RoundingExplanation, values, check=check)
    else:
        question = request(FixRequest, values, check=check)
    if isinstance(question, FixRequest) and question.cost:
        require("explain without --no-cost", "speed")
    if options["dry_run"]:
        echo("\n".join(question.plan(question.commands())))
        return 0
    return _print_explanation(ask(question, note), options, exports)


def _print_explanation(outcome: Any, options: dict[str, Any], exports: Any) -> int:
    from xorbench.programs import outputs as check_outputs

    code: int = outcome.exit_code
    again = command_line(anonymous=options["anonymous"])
    form = {name: options[name] for name in ("as_json", "anonymous")}
    shown = check_outputs.write(outcome, exports, again=again, **form)
    print_shown(shown, f"{len(outcome.judgement.rows)} runs, ")
    return code


def _explain_cases(options: dict[str, Any]) -> int:
    from xorbench.xor.trace import explain as command

    refuse_options_of_programs("cannot be used with two cases")
    most = options["max_trainings"]
    outcome = command.explain(
        command.ExplainRequest(
            a=options["target"][0],
            b=options["target"][1],
            recipe=recipe_of(options, RECIPE_OPTIONS),
            root=options["out"],
            timeout_s=answer_timeout_of(options),
            max_trainings=parse.integer("--max-trainings", most, command.FIRST_TRAININGS, 10**6),
            faults_a=options["inject_a"],
            faults_b=options["inject_b"],
        ),
        note,
    )
    if options["as_json"]:
        echo(json.dumps(asdict(outcome)))
    else:
        lines = [f"{n}: A {a}, B {b}" for n, (a, b) in outcome.differences.items()]
        echo("\n".join([*lines, "", f"{outcome.trainings} trainings", *outcome.answer]))
    return outcome.exit_code
