"""`trace`: the record of a program, or of a case."""

from typing import Any

import click

from xorbench.cli.options import (
    ROOT,
    WithCommand,
    command_words,
    given_or,
    recipe_of,
    recipe_options,
    refuse_given,
    require_faults,
    root_of,
    run_timeout_of,
    target_of,
    timeout_of,
    writable,
)
from xorbench.cli.printing import note, say
from xorbench.errors import CHECK_FAILED, BadOption
from xorbench.plan import parse
from xorbench.plan.recipe import RECIPE_OPTIONS


@click.command(
    cls=WithCommand,
    help="""Write down a training step by step: a digest of every tensor.

    CASE is a case's id, as reports name it, or one of a run: latest:cpu-loader-… CMD is a training
    of your own; it runs in this folder, as it would without xorbench. diff compares two traces.
    """,
)
@click.argument("target", metavar="(CASE | -- CMD … | MODULE:FUNCTION)", nargs=-1)
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to write the trace.")
@click.option("--epoch", metavar="EPOCHS", help="Epochs to record, all by default; ranges: 3-5.")
@click.option(
    "--dump-steps", metavar="STEPS", help="Steps of each whose tensors to keep whole: 7-9."
)
@click.option("--steps", metavar="K", help="Of a command: end it after K steps.")
@click.option("--detail", metavar="STEPS", help="Of a command: steps to record in detail: 7-9.")
@click.option(
    "--max-record", default="1GB", metavar="SIZE", help="Of a command: the largest trace [1GB]."
)
@click.option("--with-source", is_flag=True, help="Of a command: keep lines of source in it.")
@click.option(
    "--anonymous", is_flag=True, help="Of a command: no host name, absolute path or UUID in it."
)
@recipe_options(RECIPE_OPTIONS)
@click.option("--timeout", metavar="S", help="Seconds: for an answer [120], a command [3600].")
@ROOT
@click.option("--inject", multiple=True, hidden=True)
def trace(**options: Any) -> int:
    """Run the command `trace`; the answer is its exit code."""
    words = command_words()
    target = target_of(options["target"], words)
    if words or (target is not None and parse.FUNCTION.fullmatch(target)):
        return _trace_command(options, words, target)
    of_a_command = ("steps", "detail", "max_record", "with_source", "anonymous")
    refuse_given(of_a_command, "means nothing for the trace of a case")
    return _trace_case(options, target or "")


def _trace_command(options: dict[str, Any], words: tuple[str, ...], target: str | None) -> int:
    from xorbench.commands import trace_command as command

    recipe = [row.field for row in RECIPE_OPTIONS]
    refuse_given(
        ("epoch", "dump_steps", "inject", *recipe), "means nothing for the trace of a command"
    )
    steps, detail = options["steps"], _steps("--detail", options["detail"], 2**31)
    steps = None if steps is None else parse.integer("--steps", steps, 1, 2**31)
    _require_detail(steps, detail, with_source=options["with_source"])
    options["timeout"] = given_or(options["timeout"], "3600")
    request = command.TraceCommandRequest(
        words=words,
        target=target,
        output=writable("--output", options["output"]),
        steps=steps,
        detail=(detail[0], detail[-1]) if detail else None,
        max_record=parse.size("--max-record", options["max_record"]),
        with_source=options["with_source"],
        anonymous=options["anonymous"],
        timeout_s=run_timeout_of(options),
    )
    outcome = command.trace_command(request)
    for path, count in outcome.files:
        note(f"{path}: {count} steps, {path.stat().st_size / 1_000:,.0f} kB")
    note(outcome.said)
    return outcome.exit_code


def _steps(option: str, text: str | None, most: int) -> range:
    return range(0) if text is None else parse.one_range(option, text, 0, most)


def _require_detail(steps: int | None, detail: range, *, with_source: bool) -> None:
    """Raise `BadOption` for detail that would not be recorded, and source that needs detail."""
    if with_source and not detail:
        raise BadOption("--with-source: needs --detail STEPS", "lines of source stand in detail")
    if detail and steps is not None and detail[-1] >= steps:
        what = f"step {detail[-1]} of --steps {steps}"
        raise BadOption(f"--detail: {what}", f"steps count from 0: give some of 0-{steps - 1}")


def _trace_case(options: dict[str, Any], case: str) -> int:
    from xorbench.commands.trace import TraceRequest
    from xorbench.commands.trace import trace as command

    options["timeout"] = given_or(options["timeout"], "120")
    require_faults(options["inject"])
    at = options["epoch"]
    request = TraceRequest(
        text=case,
        output=writable("--output", options["output"]),
        recipe=recipe_of(options, RECIPE_OPTIONS),
        root=root_of(options["out"]),
        at=None if at is None else parse.integers("--epoch", at, 0, 1_000_000),
        valued=_steps("--dump-steps", options["dump_steps"], 10_000_000),
        timeout_s=timeout_of(options),
        faults=options["inject"],
    )
    case_trace, diverged = command(request)
    size_kb = request.output.stat().st_size / 1_000
    say(f"{request.output}: {len(case_trace.epochs)} epochs, {size_kb:,.0f} kB")
    if diverged is None:
        return 0
    say(f"it diverges from the record in epoch {diverged}")
    return CHECK_FAILED
