"""`check`: compare runs of a training, resumed runs, or runs of two commands."""

from typing import Any

import click

from xorbench.cli.options import WithCommand, outputs, program_of, program_options, refuse_others
from xorbench.cli.printing import echo, exports_of, note, print_shown
from xorbench.options.program_options import complete, options_of


@click.command(
    cls=WithCommand,
    help="""Run your training twice, compare the runs bit by bit, and locate the first difference.

    CMD is a command, such as -- python train.py. A function is called without arguments in a
    fresh interpreter. The script needs no change. XORBENCH_RUN is the number of the run, from 1.
    """,
)
@click.argument("target", metavar="(-- CMD … | MODULE:FUNCTION)", nargs=-1)
@program_options("check")
@outputs
def check(**options: Any) -> int:
    """Run the command `check` and return its exit code."""
    from xorbench.programs import check_questions as questions
    from xorbench.programs import outputs as check_outputs
    from xorbench.programs.experiment import ask

    exports = exports_of(options)
    if options["from"] is not None:
        refuse_others({"from", "as_json", "junit", "markdown", "anonymous"}, "--from")
        outcome = questions.answer_again(options["from"], anonymous=options["anonymous"])
    else:
        values = complete(options_of("check"), options)
        question = questions.question(values, **program_of(options["target"]))
        if options["dry_run"]:
            echo("\n".join(question.plan(question.commands())))
            return 0
        outcome = ask(question, note)
    form = {name: options[name] for name in ("as_json", "anonymous")}
    print_shown(check_outputs.write(outcome, exports, **form))
    return outcome.exit_code
