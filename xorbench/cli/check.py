"""`check`: a training of the user, run again, resumed, or against another."""

from pathlib import Path
from typing import Any

import click

from xorbench.cli.options import (
    ANONYMOUS,
    JSON,
    JUNIT,
    MARKDOWN,
    ROOT,
    WithCommand,
    against_of,
    command_words,
    given_or,
    name_of,
    refuse_others,
    root_of,
    run_timeout_of,
    target_of,
)
from xorbench.cli.printing import exports_of, note, print_shown, say
from xorbench.errors import BadOption
from xorbench.plan import parse


@click.command(
    cls=WithCommand,
    help="""Run a training of your own twice: is it the same, bit for bit? If not, where not?

    CMD is a command, such as -- python train.py; a function is called without arguments in a
    fresh interpreter. The script needs no change. Each run sees XORBENCH_RUN, from 1.
    """,
)
@click.argument("target", metavar="(-- CMD … | MODULE:FUNCTION)", nargs=-1)
@click.option("--against", metavar="CMD", help="Another command: the same bits, and as fast?")
@click.option(
    "--processes", metavar="N", help="How many times to run it [2, each with --against 5]."
)
@click.option("--skip", metavar="N", help="With --against: first steps that are not timed [3].")
@click.option("--threshold", metavar="X", help="With --against: slower by more fails [5%].")
@click.option("--bits-only", is_flag=True, help="With --against: do not judge the speed.")
@click.option("--speed-only", is_flag=True, help="With --against: do not judge the bits.")
@click.option("--steps", metavar="K", help="End each run after K steps of an optimizer.")
@click.option("--in-place", is_flag=True, help="Run in this folder itself, not in copies of it.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave it out of the copies.")
@click.option("--link", multiple=True, metavar="PATH", help="Link it into the copies, to be read.")
@click.option("--max-copy", default="1GB", metavar="SIZE", help="The largest folder to copy [1GB].")
@click.option("--max-record", default="1GB", metavar="SIZE", help="The largest record [1GB].")
@click.option("--timeout", default="3600", metavar="S", help="Seconds that a run may take [3600].")
@click.option("--with-source", is_flag=True, help="Show lines of source beside their numbers.")
@ANONYMOUS
@click.option(
    "--kill-after",
    metavar="LIST",
    help="Kill it after K steps, a trial for each: 5,12. Needs --resume.",
)
@click.option("--resume", metavar="CMD", help="The command that resumes it. Needs --kill-after.")
@click.option(
    "--from",
    "folder",
    metavar="DIR",
    help="Judge the records of a check once more, as it was asked for.",
)
@click.option("--dry-run", is_flag=True, help="Say what would happen, and run nothing.")
@ROOT
@click.option("--name", metavar="NAME", help="A name to find it by.")
@JUNIT
@MARKDOWN
@JSON
def check(**options: Any) -> int:
    """Run the command `check`; the answer is its exit code."""
    from xorbench.commands import check as command

    exports = exports_of(options)
    if options["folder"] is not None:
        from xorbench.commands.check_again import from_folder

        refuse_others({"folder", "as_json", "junit", "markdown", "anonymous"}, "--from")
        outcome = from_folder(Path(options["folder"]), anonymous=options["anonymous"])
        return _print_check(outcome, options, exports)
    if options["against"] is not None:
        return _check_against(options, exports)
    for name in ("skip", "threshold", "bits_only", "speed_only"):
        if options[name] not in (None, False):
            raise BadOption(f"--{name.replace('_', '-')}: needs --against CMD")
    request = check_request(options)
    if options["resume"] is not None or options["kill_after"] is not None:
        return _check_resume(request, options, exports)
    if options["dry_run"]:
        say("\n".join(command.plan(request, command.prepared(request))))
        return 0
    return _print_check(command.check(request, note), options, exports)


def _check_against(options: dict[str, Any], exports: Any) -> int:
    from xorbench.commands import against as command

    for name in ("resume", "kill_after"):
        if options[name] is not None:
            raise BadOption(f"--against: cannot be given with --{name.replace('_', '-')}")
    if options["bits_only"] and options["speed_only"]:
        raise BadOption("--bits-only: cannot be given with --speed-only")
    words = against_of(options["against"])
    options["processes"] = given_or(options["processes"], str(command.PROCESSES))
    request = command.AgainstRequest(
        check_request(options),
        words,
        skip=parse.integer("--skip", given_or(options["skip"], str(command.SKIP)), 0, 1_000_000),
        threshold=parse.share("--threshold", given_or(options["threshold"], "5%")),
        bits=not options["speed_only"],
        speed=not options["bits_only"],
    )
    if options["dry_run"]:
        say("\n".join(command.plan(request, command.prepared(request))))
        return 0
    return _print_check(command.check(request, note), options, exports)


def _check_resume(request: Any, options: dict[str, Any], exports: Any) -> int:
    from xorbench.commands import resume as command
    from xorbench.commands.check import prepared

    for option, lacking in (("resume", "kill_after"), ("kill_after", "resume")):
        if options[lacking] is None:
            flag, needed = (f"--{name.replace('_', '-')}" for name in (option, lacking))
            hint = "check --kill-after 12 --resume 'python train.py --resume' -- python train.py"
            raise BadOption(f"{flag}: needs {needed}", hint)
    if options["in_place"]:
        raise BadOption("--in-place: cannot be given with --resume", "each run needs its own copy")
    if options["processes"] is not None:
        raise BadOption("--processes: cannot be given with --resume", "give more --kill-after")
    hint = "give the command that resumes the training"
    resume = parse.command("--resume", options["resume"], hint)
    kills = parse.integers("--kill-after", options["kill_after"], 1, 2**31)
    asked = command.ResumeRequest(request, resume, kills)
    if options["dry_run"]:
        say("\n".join(command.plan(asked, prepared(request))))
        return 0
    return _print_check(command.check(asked, note), options, exports)


def check_request(options: dict[str, Any]) -> Any:
    """What is asked of `check`; raises `BadOption`."""
    from xorbench.commands.check import CheckRequest

    words = command_words()
    target = target_of(options["target"], words)
    steps = options["steps"]
    return CheckRequest(
        words=words,
        target=target,
        processes=parse.integer("--processes", given_or(options["processes"], "2"), 2, 64),
        steps=None if steps is None else parse.integer("--steps", steps, 1, 2**31),
        in_place=options["in_place"],
        exclude=options["exclude"],
        link=options["link"],
        max_copy=parse.size("--max-copy", options["max_copy"]),
        max_record=parse.size("--max-record", options["max_record"]),
        timeout_s=run_timeout_of(options),
        with_source=options["with_source"],
        anonymous=options["anonymous"],
        root=root_of(options["out"]),
        name=name_of(options["name"]),
    )


def _print_check(outcome: Any, options: dict[str, Any], exports: Any) -> int:
    from xorbench.commands import check_outputs

    code: int = outcome.exit_code
    asked = {name: options[name] for name in ("as_json", "anonymous")}
    shown = check_outputs.write(outcome, exports, **asked)
    print_shown(shown)
    return code
