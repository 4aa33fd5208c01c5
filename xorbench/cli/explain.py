"""`explain`: what makes bits differ."""

import json
from dataclasses import asdict
from typing import Any

import click

from xorbench.cli.check import check_request
from xorbench.cli.options import (
    ANONYMOUS,
    JSON,
    JUNIT,
    MARKDOWN,
    ROOT,
    WithCommand,
    against_of,
    command_line,
    command_words,
    given_or,
    recipe_of,
    recipe_options,
    refuse_given,
    require_faults,
    root_of,
    timeout_of,
)
from xorbench.cli.printing import exports_of, note, print_shown, say
from xorbench.errors import BadOption
from xorbench.plan import parse
from xorbench.plan.recipe import RECIPE_OPTIONS


@click.command(
    cls=WithCommand,
    help="""Find what makes bits differ: of a training of your own, or of two cases.

    CMD is run until it is known which switch makes it the same in every run. A and B are cases
    with a config (CASE@threads=2, CASE@env=ATEN_CPU_CAPABILITY=default), trainings of runs
    (latest:CASE), or files that trace has written: which of their settings makes them differ?
    """,
)
@click.argument("target", metavar="(A B | -- CMD … | MODULE:FUNCTION)", nargs=-1)
@recipe_options(RECIPE_OPTIONS)
@click.option("--max-trainings", metavar="N", help="Of A and B: stop after so many [100].")
@click.option(
    "--against", metavar="CMD", help="Of a command: another one; what gives both equal bits?"
)
@click.option(
    "--env",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of a command: a variable to try as a switch.",
)
@click.option(
    "--processes", metavar="N", help="Of a command: runs to see how often it differs [10]."
)
@click.option("--max-runs", metavar="N", help="Of a command: stop after so many runs [100].")
@click.option("--no-cost", is_flag=True, help="Of a command: do not time a step with the cure.")
@click.option("--skip", metavar="N", help="Of a command: first steps that are not timed [3].")
@click.option("--steps", metavar="K", help="Of a command: end each run after K steps.")
@click.option("--in-place", is_flag=True, help="Of a command: run in this folder itself.")
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Of a command: leave it out of the copies."
)
@click.option(
    "--link",
    multiple=True,
    metavar="PATH",
    help="Of a command: link it into the copies, to be read.",
)
@click.option("--max-copy", metavar="SIZE", help="Of a command: the largest folder to copy [1GB].")
@click.option("--max-record", metavar="SIZE", help="Of a command: the largest record [1GB].")
@click.option("--dry-run", is_flag=True, help="Of a command: say what would happen, run nothing.")
@click.option("--name", metavar="NAME", help="Of a command: a name to find it by.")
@click.option("--timeout", metavar="S", help="Seconds: for an answer [120], a command [3600].")
@ANONYMOUS
@ROOT
@JUNIT
@MARKDOWN
@JSON
@click.option("--inject-a", multiple=True, hidden=True)
@click.option("--inject-b", multiple=True, hidden=True)
def explain(**options: Any) -> int:
    """Run the command `explain`; the answer is its exit code."""
    words = command_words()
    target: tuple[str, ...] = options["target"]
    if words or (len(target) == 1 and parse.FUNCTION.fullmatch(target[0])):
        return _explain_command(options)
    if len(target) != 2:
        hint = "explain A B, or of a training of your own: explain -- python train.py"
        raise BadOption(f"explain: {len(target)} cases given, not A and B", hint)
    return _explain_cases(options)


def _explain_command(options: dict[str, Any]) -> int:
    from xorbench.commands import against
    from xorbench.commands import explain_command as command

    exports = exports_of(options)
    recipe = [row.field for row in RECIPE_OPTIONS]
    refuse_given(("max_trainings", "inject_a", "inject_b", *recipe), "means nothing for a command")
    hint = "such as MKL_CBWR=AVX2"
    variables = tuple(parse.variable("--env", text, hint) for text in options["env"])
    parse.distinct("--env", [name for name, _ in variables])
    sizes = {name: given_or(options[name], "1GB") for name in ("max_copy", "max_record")}
    processes = given_or(options["processes"], str(command.MOST_RUNS))
    parse.integer("--processes", processes, command.LEAST_RUNS, 64)
    plain = {
        "processes": processes,
        "with_source": False,
        "timeout": given_or(options["timeout"], "3600"),
    }
    request = command.CureRequest(
        check_request({**options, **sizes, **plain}),
        against=None if options["against"] is None else against_of(options["against"]),
        variables=variables,
        max_runs=parse.integer(
            "--max-runs",
            given_or(options["max_runs"], str(command.MAX_RUNS)),
            command.LEAST_RUNS,
            100_000,
        ),
        cost=not options["no_cost"],
        skip=parse.integer("--skip", given_or(options["skip"], str(against.SKIP)), 0, 1_000_000),
    )
    if options["dry_run"]:
        say("\n".join(command.plan(request, command.prepared(request))))
        return 0
    return _print_explanation(command.explain(request, note), options, exports)


def _print_explanation(outcome: Any, options: dict[str, Any], exports: Any) -> int:
    from xorbench.commands import explain_outputs

    code: int = outcome.exit_code
    again = command_line(anonymous=options["anonymous"])
    asked = {name: options[name] for name in ("as_json", "anonymous")}
    shown = explain_outputs.write(outcome, again, exports, **asked)
    print_shown(shown, f"{len(outcome.judgement.rows)} runs, ")
    return code


OF_A_COMMAND = (
    *("against", "env", "processes", "max_runs", "no_cost", "skip", "steps", "in_place"),
    *("exclude", "link", "max_copy", "max_record", "dry_run", "name", "junit", "markdown"),
    "anonymous",
)


def _explain_cases(options: dict[str, Any]) -> int:
    from xorbench.commands import explain as command

    refuse_given(OF_A_COMMAND, "means nothing for two cases")
    options["timeout"] = given_or(options["timeout"], "120")
    require_faults((*options["inject_a"], *options["inject_b"]))
    request = command.ExplainRequest(
        a=options["target"][0],
        b=options["target"][1],
        recipe=recipe_of(options, RECIPE_OPTIONS),
        root=root_of(options["out"]),
        timeout_s=timeout_of(options),
        max_trainings=parse.integer(
            "--max-trainings",
            given_or(options["max_trainings"], "100"),
            command.FIRST_TRAININGS,
            1_000_000,
        ),
        faults_a=options["inject_a"],
        faults_b=options["inject_b"],
    )
    outcome = command.explain(request, note)
    if options["as_json"]:
        say(json.dumps(asdict(outcome)))
    else:
        lines = [f"{n}: A {a}, B {b}" for n, (a, b) in outcome.differences.items()]
        say("\n".join([*lines, "", f"{outcome.trainings} trainings", *outcome.answer]))
    return outcome.exit_code
