"""The command line: options in, text out, exit code. The work is done in `commands`."""

import json
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from xorbench import __version__
from xorbench.errors import BAD_INPUT, CHECK_FAILED, INTERRUPTED, BadFile, BadOption, XorbenchError
from xorbench.plan import parse
from xorbench.plan.axes import AXES, read_devices
from xorbench.plan.case import read_device
from xorbench.plan.faults import read_fault
from xorbench.plan.matrix import STRESSES
from xorbench.plan.probes import read_probes, read_size
from xorbench.plan.recipe import RECIPE_OPTIONS, Recipe, RecipeOption, read_recipe
from xorbench.plan.sweep import BACKENDS, LARGEST_CHUNK, SWEEP_OPTIONS, read_seeds

Command = TypeVar("Command", bound=Callable[..., Any])

FUNCTION = r"[\w.]+:[\w.]+"  # package.module:function
RESERVED = {"latest", ".", ".."}
ROOT = click.option("--out", default="results", metavar="DIR", help="Folder of all runs.")
JUNIT = click.option("--junit", metavar="FILE", help="Each verdict as a test case, for a CI.")
MARKDOWN = click.option("--markdown", metavar="FILE", help="The report as Markdown, besides.")
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


def main() -> NoReturn:
    """Run the command line; a mistake of the user's is one line and a hint, never a traceback."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        code = cli.main(arguments, prog_name="xorbench", standalone_mode=False)
    except (XorbenchError, click.ClickException) as error:
        if debug:
            traceback.print_exc()
        code = _complain(error)
    except (KeyboardInterrupt, click.Abort):
        _say("xorbench: interrupted", err=True)
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


def _complain(error: XorbenchError | click.ClickException) -> int:
    if isinstance(error, XorbenchError):
        message, hint, code = error.message, error.hint, error.exit_code
    else:
        message, hint, code = _usage(error), "python -m xorbench --help lists them", BAD_INPUT
    _say(f"xorbench: {' '.join(message.split())}", err=True)
    if hint:
        _say(f"hint: {' '.join(hint.split())}", err=True)
    return code


def _say(text: str, *, err: bool = False) -> None:
    """Print; a reader that has gone, as `head` does, changes neither the work nor the exit code."""
    stream = sys.stderr if err else sys.stdout
    try:
        click.echo(text, err=err)
        stream.flush()
    except OSError as error:
        # what is left in the buffer must not be tried again when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            why = str(error.strerror).lower()
            raise BadFile(f"standard output: cannot write: {why}") from None


def _usage(error: click.ClickException) -> str:
    """Click's own complaint with the option in front."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return "which command?"
    if isinstance(error, click.NoSuchOption):
        return f"{error.option_name}: no such option"
    if isinstance(error, click.BadOptionUsage):
        return f"{error.option_name}: {error.message}"
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{error.param.opts[0]}: {error.message}"
    return error.message


class WithCommand(click.Command):
    """A command that takes another command behind `--`, untouched."""

    KEY = "xorbench.command"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set aside what stands behind `--`."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[self.KEY] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="xorbench")
def cli() -> None:
    """Does this PyTorch machine train right, to the same bits, and as fast as it should?

    Exit codes: 0 passed, 1 a check failed, 2 bad input, 3 inconclusive, 4 a required device is
    missing, 130 interrupted. Any command takes --debug.
    """


def plan_options(command: Command) -> Command:
    """The options of the axes and of the recipe, made from their tables."""
    command = recipe_options(RECIPE_OPTIONS)(command)
    for axis in reversed(AXES):
        about = f"{axis.about} [{axis.default_text}]"
        # a setting that is true or false may be named alone, which means true
        alone: dict[str, Any] = {}
        if isinstance(axis.default[0], bool):
            alone = {"is_flag": False, "flag_value": "true"}
        elif axis.several:
            alone = {"multiple": True}
        option = click.option(axis.option, axis.name, metavar="LIST", help=about, **alone)
        command = option(command)
    return command


def recipe_options(rows: Sequence[RecipeOption]) -> Callable[[Command], Command]:
    """The options of these fields of the recipe."""

    def decorate(command: Command) -> Command:
        for row in reversed(rows):
            about = f"{row.about} [{row.default_text}]"
            command = click.option(row.option, row.field, metavar="VALUE", help=about)(command)
        return command

    return decorate


@cli.command()
@plan_options
@click.option("--quick", is_flag=True, help="Batch size 128 only: two cases, full epochs.")
@click.option("--processes", default="2", metavar="N", help="Fresh processes for each case.")
@click.option("--timeout", default="120", metavar="S", help="Seconds to wait for one answer.")
@click.option("--schedule-seed", default="0", metavar="N", help="Seed of the interleaving.")
@ROOT
@click.option("--name", metavar="NAME", help="A name to find the run by.")
@click.option("--require-devices", is_flag=True, help="A device that is missing: exit code 4.")
@click.option("--stress", metavar="WHAT", help="Keep it busy meanwhile: cpu, memory, accelerator.")
@click.option("--save-weights", is_flag=True, help="Keep each trained state_dict as a file.")
@click.option("--anonymous", is_flag=True, help="No host name, absolute path or UUID in the files.")
@click.option("--dry-run", is_flag=True, help="Show the cases and an estimate, train nothing.")
@click.option("--resume", metavar="RUN", help="Bring a run that was stopped to its end.")
@JUNIT
@MARKDOWN
@JSON
@click.option("--inject", multiple=True, hidden=True)
def run(**options: Any) -> int:
    """Train the matrix, check it, and write the report."""
    from xorbench.commands import run as command

    if options["resume"] is not None:
        _refuse_beside_resume()
        exports = _exports(options)
        outcome = command.resume(_root(options["out"]), options["resume"], _progress())
        return _print_outcome(outcome, options["as_json"], exports)
    request = _request(options)
    if options["dry_run"]:
        return _print_preview(command.preview(request), options["as_json"])
    exports = _exports(options)
    return _print_outcome(command.run(request, _progress()), options["as_json"], exports)


def _progress() -> Any:
    from xorbench.commands.progress import for_stream

    return for_stream()


def _refuse_beside_resume() -> None:
    """A resumed run is the run that was: only where it is and how it prints may be said anew."""
    context = click.get_current_context()
    given = click.core.ParameterSource.COMMANDLINE
    for parameter in context.command.params:
        name = parameter.name or ""
        if (
            name not in {"resume", "out", "as_json", "junit", "markdown"}
            and context.get_parameter_source(name) == given
        ):
            raise BadOption(f"{parameter.opts[0]}: cannot be given with --resume")


def _request(options: dict[str, Any]) -> Any:
    from xorbench.commands.run import RunRequest

    axes = {
        axis.name: axis.read(axis.option, _joined(options[axis.name]))
        for axis in AXES
        if options[axis.name] not in (None, ())
    }
    _require_faults(options["inject"])
    return RunRequest(
        recipe=_recipe(options, RECIPE_OPTIONS),
        axes=axes,
        command=_command(options["anonymous"]),
        root=_root(options["out"]),
        name=_name(options["name"]),
        quick=options["quick"],
        processes_per_config=parse.integer("--processes", options["processes"], 1, 64),
        timeout_s=_timeout_s(options),
        schedule_seed=parse.integer("--schedule-seed", options["schedule_seed"], 0, 2**31 - 1),
        faults=options["inject"],
        require_devices=options["require_devices"],
        save_weights=options["save_weights"],
        stress=None
        if options["stress"] is None
        else parse.word("--stress", options["stress"], STRESSES),
        anonymous=options["anonymous"],
    )


def _timeout_s(options: dict[str, Any]) -> float:
    return parse.positive("--timeout", options["timeout"], 86_400.0)


def _require_faults(texts: Sequence[str]) -> None:
    for text in texts:
        read_fault(text)


def _joined(text: str | tuple[str, ...]) -> str:
    """The texts of an option that may be given several times, as lines."""
    return text if isinstance(text, str) else "\n".join(text)


def _recipe(options: dict[str, Any], rows: Sequence[RecipeOption]) -> Recipe:
    return read_recipe({r.field: options[r.field] for r in rows if options[r.field] is not None})


def _command(anonymous: bool) -> str:
    """The command line as it was typed, without its folder where it is to name nobody."""
    words = sys.argv[1:]
    if anonymous:
        words = [
            "DIR" if before == "--out" else "--out=DIR" if word.startswith("--out=") else word
            for before, word in pairwise(["", *words])
        ]
    return f"python -m xorbench {shlex.join(words)}"


def _root(text: str) -> Path:
    if not text.strip():
        raise BadOption("--out: empty", "give a folder, for example --out results")
    try:
        text.encode()
        Path(text).exists()
    except (OSError, ValueError) as error:  # too long, or not to be written down
        raise BadOption(f"--out: {ascii(text)[:60]}: {error.args[-1]}") from None
    return Path(text)


def _file(option: str, text: str) -> Path:
    """A file that can be written; raises `BadOption`, before any work, where it cannot."""
    path = Path(text)
    try:
        if path.is_dir() or not path.parent.is_dir():
            raise BadOption(f"{option}: cannot write {text!r}", "give a file in a folder that is")
    except (OSError, ValueError) as error:
        raise BadOption(f"{option}: {ascii(text)[:60]}: {error.args[-1]}") from None
    return path


def _name(text: str | None) -> str | None:
    return None if text is None else _named("--name", text)


def _named(option: str, text: str) -> str:
    allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    if not text or len(text) > 64 or not set(text) <= set(allowed) or text in RESERVED:
        raise BadOption(
            f"{option}: {text!r} will not do",
            "1 to 64 letters, digits, '.', '_', '-'; not 'latest'",
        )
    return text


@cli.command()
@click.option("--devices", metavar="LIST", help="The CPU and every accelerator by default.")
@click.option("--probes", metavar="LIST", help="What to check; see docs/probes.md [all].")
@click.option("--burn-in", metavar="SECONDS", help="Keep all devices busy, verify everything.")
@click.option("--memory", metavar="SIZE", help="Memory that a burn-in writes, such as 8GiB.")
@click.option(
    "--prometheus", metavar="FILE", help="Metrics for node_exporter's textfile collector."
)
@click.option("--save", is_flag=True, help="Save the calibration time of this machine.")
@click.option("--machine-threshold", default="1.5", metavar="X", help="Slower than X times: fail.")
@click.option("--timeout", default="120", metavar="S", help="Seconds to wait for one answer.")
@click.option("--require-devices", is_flag=True, help="A device that is missing: exit code 4.")
@ROOT
@JUNIT
@MARKDOWN
@JSON
@click.option("--inject", multiple=True, hidden=True)
def canary(**options: Any) -> int:
    """Say in seconds whether each device computes right, from one digest for every machine."""
    from xorbench.commands.canary import canary as command

    request, exports = _canary_request(options), _exports(options)
    metrics = options["prometheus"] and _file("--prometheus", options["prometheus"])
    outcome = command(request, _note)
    from xorbench.report import canary as report  # slow to import: while the processes start

    found = (outcome.verdicts, outcome.machine, outcome.wall_s, outcome.exit_code)
    if metrics:
        from xorbench.report.metrics import write

        write(metrics, outcome.verdicts, outcome.burned, outcome.exit_code)
    as_json = options["as_json"]
    _say(report.as_json(*found, outcome.burned) if as_json else report.text(*found))
    markdown = partial(report.markdown, *found)
    _note(exports.write(outcome.verdicts, "canary", markdown, markdown))
    return outcome.exit_code


def _canary_request(options: dict[str, Any]) -> Any:
    from xorbench.commands.canary import CanaryRequest

    burn_in, memory, devices = options["burn_in"], options["memory"], options["devices"]
    if memory is not None and burn_in is None:
        raise BadOption("--memory: needs --burn-in", "for example --burn-in 60 --memory 8GiB")
    _require_faults(options["inject"])
    return CanaryRequest(
        devices=None if devices is None else read_devices("--devices", devices),
        probes=read_probes("--probes", options["probes"]),
        burn_in_s=None if burn_in is None else parse.positive("--burn-in", burn_in, 10_000_000.0),
        memory=None if memory is None else read_size("--memory", memory),
        root=_root(options["out"]),
        save=options["save"],
        machine_threshold=parse.real("--machine-threshold", options["machine_threshold"], 1, 1e6),
        timeout_s=_timeout_s(options),
        require_devices=options["require_devices"],
        faults=options["inject"],
    )


@cli.command()
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
@JUNIT
@MARKDOWN
@JSON
def sweep(**options: Any) -> int:
    """Train many seeds to universal bits; count those that learn XOR, and how soon."""
    from xorbench.commands import sweep as command

    if options["resume"] is not None:
        _refuse_beside_resume()
        exports = _exports(options)
        outcome = command.resume(_root(options["out"]), options["resume"], _progress())
    else:
        request = _sweep_request(options)
        exports = _exports(options)
        outcome = command.sweep(request, _progress())
    return _print_outcome(outcome, options["as_json"], exports)


def _sweep_request(options: dict[str, Any]) -> Any:
    from xorbench.commands.sweep import SweepRequest

    backend, threads, chunk = options["backend"], options["threads"], options["chunk"]
    return SweepRequest(
        recipe=_recipe(options, SWEEP_OPTIONS),
        batch_sizes=parse.integers("--batch-sizes", options["batch_sizes"], 1, 10_000_000),
        drop_last=parse.truth("--drop-last", options["drop_last"], "true"),
        seeds=read_seeds("--seeds", options["seeds"]),
        command=_command(options["anonymous"]),
        root=_root(options["out"]),
        name=_name(options["name"]),
        backend=None if backend is None else parse.word("--backend", backend, BACKENDS),
        device=read_device("--device", options["device"]),
        threads=None if threads is None else parse.integer("--threads", threads, 1, 1_024),
        chunk=None if chunk is None else parse.integer("--chunk", chunk, 1, LARGEST_CHUNK),
        timeout_s=_timeout_s(options),
        anonymous=options["anonymous"],
    )


@cli.command()
@click.argument("texts", metavar="[RUN …]", nargs=-1)
@click.option("--history", is_flag=True, help="Each case over all runs, its changes marked.")
@click.option("--html", metavar="FILE", help="The page of several runs; that of one is in it.")
@ROOT
@JUNIT
@MARKDOWN
@JSON
def report(**options: Any) -> int:
    """Make the tables of a run again from its files alone, or put several side by side.

    RUN is a path, an id, the unique beginning of one, a name, or latest.
    """
    from xorbench.commands import report as command

    if options["history"]:
        return _print_history(options)
    root, texts = _root(options["out"]), options["texts"] or ("latest",)
    if len(texts) > 1:
        return _print_sides(command.sides(root, texts), options)
    if options["html"] is not None:
        raise BadOption("--html: is for several runs", "the page of one is in its folder")
    exports = _exports(options)
    outcome, trouble = command.report(root, texts[0])
    _note(trouble)
    return _print_outcome(outcome, options["as_json"], exports)


def _print_history(options: dict[str, Any]) -> int:
    from xorbench.commands.report import history

    if options["texts"]:
        raise BadOption("--history: shows every run, so name none", "report A B for some")
    outcome, troubles = history(_root(options["out"]))
    for trouble in troubles:
        _note(trouble)
    return _print_sides(outcome, options)


def _print_sides(outcome: Any, options: dict[str, Any]) -> int:
    """What belongs to no one folder: printed, and written where it is asked for."""
    from xorbench.commands.ci_outputs import write_page

    exports = _exports(options)
    if options["html"] is not None:
        write_page(options["html"], outcome.content)
    return _print_outcome(outcome, options["as_json"], exports)


@cli.command(cls=WithCommand)
@click.argument("target", metavar="(A B | -- CMD … | MODULE:FUNCTION)", nargs=-1)
@recipe_options(RECIPE_OPTIONS)
@click.option("--max-trainings", metavar="N", help="Of A and B: stop after so many [100].")
@click.option("--against", metavar="CMD", help="Another command: what gives both equal bits?")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="A variable to try as a switch.")
@click.option(
    "--processes", metavar="N", help="Of a command: runs to see how often it differs [10]."
)
@click.option("--max-runs", metavar="N", help="Of a command: stop after so many runs [100].")
@click.option("--no-cost", is_flag=True, help="Of a command: do not time a step with the cure.")
@click.option("--skip", metavar="N", help="Of a command: first steps that are not timed [3].")
@click.option("--steps", metavar="K", help="Of a command: end each run after K steps.")
@click.option("--in-place", is_flag=True, help="Of a command: run in this folder itself.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave it out of the copies.")
@click.option("--link", multiple=True, metavar="PATH", help="Link it into the copies, to be read.")
@click.option("--max-copy", metavar="SIZE", help="The largest folder to copy [1GB].")
@click.option("--max-record", metavar="SIZE", help="The largest record [1GB].")
@click.option("--dry-run", is_flag=True, help="Of a command: say what would happen, run nothing.")
@click.option("--name", metavar="NAME", help="Of a command: a name to find it by.")
@click.option("--timeout", metavar="S", help="Seconds: for an answer [120], a command [3600].")
@ROOT
@JSON
@click.option("--inject-a", multiple=True, hidden=True)
@click.option("--inject-b", multiple=True, hidden=True)
def explain(**options: Any) -> int:
    """Find what makes bits differ: of a training of your own, or of two cases.

    CMD is run until it is known which switch makes it the same in every run. A and B are cases
    with a config (CASE@threads=2, CASE@env=ATEN_CPU_CAPABILITY=default), trainings of runs
    (latest:CASE), or files that trace has written: which of their settings makes them differ?
    """
    words = _command_words()
    target: tuple[str, ...] = options["target"]
    if words or (len(target) == 1 and re.fullmatch(FUNCTION, target[0])):
        return _explain_command(options)
    if len(target) != 2:
        hint = "explain A B, or of a training of your own: explain -- python train.py"
        raise BadOption(f"explain: {len(target)} cases given, not A and B", hint)
    return _explain_cases(options)


def _explain_command(options: dict[str, Any]) -> int:
    from xorbench.commands import against
    from xorbench.commands import explain_command as command
    from xorbench.report.check import conclusion_text

    recipe = [row.field for row in RECIPE_OPTIONS]
    _refuse_given("a command", ("max_trainings", "inject_a", "inject_b", *recipe))
    variables = command.variables_of(options["env"])
    sizes = {name: _or(options[name], "1GB") for name in ("max_copy", "max_record")}
    processes = _or(options["processes"], str(command.MOST_RUNS))
    parse.integer("--processes", processes, command.LEAST_RUNS, 64)
    plain = {
        "processes": processes,
        "with_source": False,
        "timeout": _or(options["timeout"], "3600"),
    }
    request = command.CureRequest(
        _check_request({**options, **sizes, **plain}),
        against=None if options["against"] is None else against.words_of(options["against"]),
        variables=variables,
        max_runs=parse.integer(
            "--max-runs",
            _or(options["max_runs"], str(command.MAX_RUNS)),
            command.LEAST_RUNS,
            100_000,
        ),
        cost=not options["no_cost"],
        skip=parse.integer("--skip", _or(options["skip"], str(against.SKIP)), 0, 1_000_000),
    )
    if options["dry_run"]:
        _say("\n".join(command.plan(request, command.prepared(request))))
        return 0
    outcome = command.explain(request, _note)
    _say(command.as_json(outcome) if options["as_json"] else conclusion_text(outcome.conclusion))
    _note(f"{outcome.search.runs} runs, records in {_shown(outcome.folder)}")
    return outcome.exit_code


def _refuse_given(what: str, names: Sequence[str]) -> None:
    """Refuse options that were given to explain and mean nothing for what it explains."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and given == click.core.ParameterSource.COMMANDLINE:
            raise BadOption(f"{parameter.opts[0]}: means nothing for {what}")


OF_A_COMMAND = (
    *("against", "env", "processes", "max_runs", "no_cost", "skip", "steps", "in_place"),
    *("exclude", "link", "max_copy", "max_record", "dry_run", "name"),
)


def _explain_cases(options: dict[str, Any]) -> int:
    from xorbench.commands import explain as command

    _refuse_given("two cases", OF_A_COMMAND)
    options["timeout"] = _or(options["timeout"], "120")
    _require_faults((*options["inject_a"], *options["inject_b"]))
    request = command.ExplainRequest(
        a=options["target"][0],
        b=options["target"][1],
        recipe=_recipe(options, RECIPE_OPTIONS),
        root=_root(options["out"]),
        timeout_s=_timeout_s(options),
        max_trainings=parse.integer(
            "--max-trainings",
            _or(options["max_trainings"], "100"),
            command.FIRST_TRAININGS,
            1_000_000,
        ),
        faults_a=options["inject_a"],
        faults_b=options["inject_b"],
    )
    found = command.explain(request, _note)
    if options["as_json"]:
        _say(json.dumps(command.as_dict(found)))
    else:
        lines = [f"{n}: A {a}, B {b}" for n, (a, b) in found.values.items()]
        _say("\n".join([*lines, "", f"{found.trainings} trainings", *found.answer]))
    return found.exit_code


@cli.command()
@JSON
def selftest(as_json: bool) -> int:
    """Inject every fault in short real runs; each must be caught by the check meant for it."""
    from xorbench.commands.selftest import selftest as command
    from xorbench.report import selftest as report

    begun = time.monotonic()
    outcome = command(_note)
    rows = [(one.fault, one.check, one.said) for one in outcome.caught]
    code = 0 if outcome.passed else CHECK_FAILED
    wall_s = time.monotonic() - begun
    as_text = report.text(rows, outcome.alarms, wall_s)
    _say(report.as_json(rows, outcome.alarms, code) if as_json else as_text)
    return code


@cli.command(cls=WithCommand)
@click.argument("target", metavar="(CASE | -- CMD … | MODULE:FUNCTION)", nargs=-1)
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to write the trace.")
@click.option("--epoch", metavar="EPOCHS", help="Epochs to record, all by default; ranges: 3-5.")
@click.option(
    "--dump-steps", metavar="STEPS", help="Steps of each whose tensors to keep whole: 7-9."
)
@click.option("--steps", metavar="K", help="Of a command: end it after K steps.")
@click.option("--detail", metavar="STEPS", help="Of a command: steps to record in detail: 7-9.")
@click.option("--max-record", default="1GB", metavar="SIZE", help="The largest trace [1GB].")
@click.option("--with-source", is_flag=True, help="Of a command: keep lines of source in it.")
@recipe_options(RECIPE_OPTIONS)
@click.option("--timeout", metavar="S", help="Seconds: for an answer [120], a command [3600].")
@ROOT
@click.option("--inject", multiple=True, hidden=True)
def trace(**options: Any) -> int:
    """Write down a training step by step: a digest of every tensor.

    CASE is a case's id, as reports name it, or one of a run: latest:cpu-loader-… CMD is a training
    of your own, which runs here as without this; diff compares two such traces.
    """
    words = _command_words()
    target = _target(options["target"], words)
    if words or (target is not None and re.fullmatch(FUNCTION, target)):
        return _trace_command(options, words, target)
    _refuse_beside("of a case", ("steps", "detail", "max_record", "with_source"))
    return _trace_case(options, target or "")


def _refuse_beside(what: str, names: Sequence[str]) -> None:
    """Refuse options that were given though they mean nothing here."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        if name in names and given:
            raise BadOption(f"{parameter.opts[0]}: means nothing for the trace {what}")


def _trace_command(options: dict[str, Any], words: tuple[str, ...], target: str | None) -> int:
    from xorbench.commands import trace_command as command

    recipe = [row.field for row in RECIPE_OPTIONS]
    _refuse_beside("of a command", ("epoch", "dump_steps", "inject", *recipe))
    steps, detail = options["steps"], options["detail"]
    ranges = parse.ranges("--detail", detail, 0, 2**31)[:1] if detail else ()
    request = command.TraceCommandRequest(
        words=words,
        target=target,
        output=_file("--output", options["output"]),
        steps=None if steps is None else parse.integer("--steps", steps, 1, 2**31),
        detail=(ranges[0].start, ranges[0].stop - 1) if ranges else None,
        max_record=parse.size("--max-record", options["max_record"]),
        with_source=options["with_source"],
        timeout_s=parse.positive("--timeout", options["timeout"] or "3600", 86_400.0 * 365),
    )
    outcome = command.trace_command(request)
    for path, count in outcome.files:
        _note(f"{path}: {count} steps, {path.stat().st_size / 1_000:,.0f} kB")
    _note(outcome.said)
    return outcome.exit_code


def _trace_case(options: dict[str, Any], case: str) -> int:
    from xorbench.commands.trace import TraceRequest
    from xorbench.commands.trace import trace as command

    options["timeout"] = options["timeout"] or "120"
    _require_faults(options["inject"])
    at, values = options["epoch"], options["dump_steps"]
    steps = parse.ranges("--dump-steps", values, 0, 10_000_000)[:1] if values else ()
    request = TraceRequest(
        text=case,
        output=_file("--output", options["output"]),
        recipe=_recipe(options, RECIPE_OPTIONS),
        root=_root(options["out"]),
        at=None if at is None else parse.integers("--epoch", at, 0, 1_000_000),
        valued=steps[0] if steps else range(0),
        timeout_s=_timeout_s(options),
        faults=options["inject"],
    )
    outcome = command(request)
    size_kb = outcome.output.stat().st_size / 1_000
    _say(f"{outcome.output}: {len(outcome.trace.epochs)} epochs, {size_kb:,.0f} kB")
    if outcome.diverged is None:
        return 0
    _say(f"it diverges from the record in epoch {outcome.diverged}")
    return CHECK_FAILED


@cli.command(cls=WithCommand)
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
@click.option("--kill-after", metavar="LIST", help="Kill it after so many steps, such as 5,12 …")
@click.option("--resume", metavar="CMD", help="… and resume it so: does it end the same?")
@click.option("--from", "folder", metavar="DIR", help="Judge the records of a check once more.")
@click.option("--dry-run", is_flag=True, help="Say what would happen, and run nothing.")
@ROOT
@click.option("--name", metavar="NAME", help="A name to find it by.")
@JUNIT
@MARKDOWN
@JSON
def check(**options: Any) -> int:
    """Run a training of your own twice: is it the same, bit for bit? If not, where not?

    CMD is a command, such as -- python train.py; a function is called without arguments in a
    fresh interpreter. The script needs no change. Each run sees XORBENCH_RUN, from 1.
    """
    from xorbench.commands import check as command

    exports = _exports(options)
    if options["folder"] is not None:
        return _print_check(command.from_folder(Path(options["folder"])), options, exports)
    if options["against"] is not None:
        return _check_against(options, exports)
    for name in ("skip", "threshold", "bits_only", "speed_only"):
        if options[name] not in (None, False):
            raise BadOption(f"--{name.replace('_', '-')}: needs --against CMD")
    request = _check_request(options)
    if options["resume"] is not None or options["kill_after"] is not None:
        return _check_resume(request, options, exports)
    if options["dry_run"]:
        _say("\n".join(command.plan(request, command.prepared(request))))
        return 0
    return _print_check(command.check(request, _note), options, exports)


def _check_against(options: dict[str, Any], exports: Any) -> int:
    from xorbench.commands import against as command

    for name in ("resume", "kill_after"):
        if options[name] is not None:
            raise BadOption(f"--against: cannot be given with --{name.replace('_', '-')}")
    if options["bits_only"] and options["speed_only"]:
        raise BadOption("--bits-only: cannot be given with --speed-only")
    words = command.words_of(options["against"])
    options["processes"] = _or(options["processes"], str(command.PROCESSES))
    request = command.AgainstRequest(
        _check_request(options),
        words,
        skip=parse.integer("--skip", _or(options["skip"], str(command.SKIP)), 0, 1_000_000),
        threshold=parse.share("--threshold", _or(options["threshold"], "5%")),
        bits=not options["speed_only"],
        speed=not options["bits_only"],
    )
    if options["dry_run"]:
        _say("\n".join(command.plan(request, command.prepared(request))))
        return 0
    return _print_check(command.check(request, _note), options, exports)


def _check_resume(check_request: Any, options: dict[str, Any], exports: Any) -> int:
    from xorbench.commands import resume as command
    from xorbench.commands.check import prepared

    for option, lacking in (("resume", "kill_after"), ("kill_after", "resume")):
        if options[lacking] is None:
            flag, needed = (f"--{name.replace('_', '-')}" for name in (option, lacking))
            hint = "check --kill-after 12 --resume 'python train.py --resume' -- python train.py"
            raise BadOption(f"{flag}: needs {needed}", hint)
    if options["in_place"]:
        raise BadOption("--in-place: cannot be given with --resume", "each run needs its own copy")
    if options["processes"] not in (None, "2"):
        raise BadOption("--processes: cannot be given with --resume", "give more --kill-after")
    try:
        resume = tuple(shlex.split(options["resume"]))
    except ValueError as error:
        raise BadOption(f"--resume: {str(error).lower()}: {options['resume']!r}") from None
    if not resume:
        raise BadOption("--resume: empty", "give the command that resumes the training")
    kills = parse.integers("--kill-after", options["kill_after"], 1, 2**31)
    request = command.ResumeRequest(check_request, resume, kills)
    if options["dry_run"]:
        _say("\n".join(command.plan(request, prepared(check_request))))
        return 0
    return _print_check(command.check(request, _note), options, exports)


def _check_request(options: dict[str, Any]) -> Any:
    from xorbench.commands.check import CheckRequest

    words = _command_words()
    target = _target(options["target"], words)
    steps = options["steps"]
    return CheckRequest(
        words=words,
        target=target,
        processes=parse.integer("--processes", _or(options["processes"], "2"), 2, 64),
        steps=None if steps is None else parse.integer("--steps", steps, 1, 2**31),
        in_place=options["in_place"],
        exclude=options["exclude"],
        link=options["link"],
        max_copy=parse.size("--max-copy", options["max_copy"]),
        max_record=parse.size("--max-record", options["max_record"]),
        timeout_s=_timeout_s(options),
        with_source=options["with_source"],
        root=_root(options["out"]),
        name=_name(options["name"]),
    )


def _or(given: str | None, default: str) -> str:
    """What was given, an empty text too, which is no value; else the default."""
    return default if given is None else given


def _command_words() -> tuple[str, ...]:
    """What stands behind `--` on the command line."""
    words: tuple[str, ...] = click.get_current_context().meta.get(WithCommand.KEY, ())
    return words


def _target(words: tuple[str, ...], command: tuple[str, ...]) -> str | None:
    """The word before `--`; raises `BadOption` where there is not either one or a command."""
    name = click.get_current_context().info_name
    hint = f"put -- before the command: {name} -- python train.py"
    if len(words) > 1 or (words and command):
        raise BadOption(f"{name}: {words[0]!r} is in front of the command", hint)
    if not words and not command:
        raise BadOption(f"{name}: no command given", hint)
    return words[0] if words else None


def _print_check(outcome: Any, options: dict[str, Any], exports: Any) -> int:
    from xorbench.commands import check_outputs

    code: int = outcome.exit_code
    shown = check_outputs.write(outcome, exports, as_json=options["as_json"])
    _say(shown.text)
    _note(f"report in {_shown(shown.report)}")
    _note(shown.warning)
    return code


@cli.command()
@click.argument("a")
@click.argument("b")
@click.option("--timeout", default="120", metavar="S", help="Seconds to wait for one answer.")
@ROOT
@JSON
def diff(**options: Any) -> int:
    """Find where two trainings diverge: epoch, step, tensor, element.

    A and B are runs, trainings of runs (latest:CASE, or latest:CASE#p1 for one of its
    processes), or files that trace has written.
    """
    from xorbench.commands import diff_programs
    from xorbench.commands.diff import DiffRequest
    from xorbench.commands.diff import diff as command
    from xorbench.report import check as programs
    from xorbench.report import divergence as report

    timeout_s = _timeout_s(options)
    between = diff_programs.diff(options["a"], options["b"])
    if between is not None:
        conclusion, code = between
        as_json = programs.conclusion_json(conclusion, code)
        _say(as_json if options["as_json"] else programs.conclusion_text(conclusion))
        return code
    found, code = command(DiffRequest(options["a"], options["b"], _root(options["out"]), timeout_s))
    _say(report.as_json(found, code) if options["as_json"] else report.text(found))
    return code


@cli.command()
@ROOT
@click.option("--name", metavar="NAME", help="A name to find them by.")
@click.option("--timeout", default="120", metavar="S", help="Seconds to wait for one lesson.")
@click.option("--anonymous", is_flag=True, help="No host name, absolute path or UUID in the files.")
@JUNIT
@MARKDOWN
@JSON
def lessons(**options: Any) -> int:
    """Try what a beginner's tutorial says of this network, and say what holds here."""
    from xorbench.commands.lessons import LessonsRequest
    from xorbench.commands.lessons import lessons as command

    request = LessonsRequest(
        command=_command(options["anonymous"]),
        root=_root(options["out"]),
        name=_name(options["name"]),
        timeout_s=_timeout_s(options),
        anonymous=options["anonymous"],
    )
    exports = _exports(options)
    return _print_outcome(command(request), options["as_json"], exports)


@cli.command()
@click.argument("runs", metavar="[A] B", nargs=-1)
@click.option("--baseline", metavar="NAME", help="Compare B with this saved baseline.")
@click.option("--by", "axis", metavar="SETTING", help="Judge along one setting of one run.")
@click.option("--threshold", default="5%", metavar="X", help="Slower by more fails [5%].")
@click.option("--machine-threshold", default="1.5", metavar="X", help="The same of the machine.")
@click.option("--markdown", is_flag=True, help="For a merge request or an issue.")
@ROOT
@JSON
def compare(**options: Any) -> int:
    """Is B slower than A, in code or settings, or is the machine?

    A and B are runs: a path, an id, the unique beginning of one, a name, or latest. With --by each
    value of a setting is judged against the first, by its speed and by its bits.
    """
    from xorbench.commands import compare as command
    from xorbench.report import compare as report

    text_format = _format(options)
    root, runs, axis = _root(options["out"]), options["runs"], options["axis"]
    thresholds = (
        parse.share("--threshold", options["threshold"]),
        parse.real("--machine-threshold", options["machine_threshold"], 1, 1e6),
    )
    wanted = 1 if axis or options["baseline"] else 2
    if len(runs) != wanted or (axis and options["baseline"]):
        raise BadOption(
            f"compare: {len(runs)} runs given",
            "compare A B, compare B --baseline NAME, or compare RUN --by SETTING",
        )
    if axis:
        _refuse_beside_by()
        along = command.by_axis(root, runs[0], axis, thresholds[0])
        _say(report.BY_FORMATS[text_format](along))
        return command.exit_code(along)
    before = None if options["baseline"] else runs[0]
    found = command.compare(root, before, runs[-1], options["baseline"], thresholds)
    _say(report.FORMATS[text_format](found))
    return command.exit_code(found)


def _refuse_beside_by() -> None:
    """The values of a setting are timed on one machine, in one run."""
    context = click.get_current_context()
    if context.get_parameter_source("machine_threshold") == click.core.ParameterSource.COMMANDLINE:
        raise BadOption(
            "--machine-threshold: cannot be given with --by", "--threshold judges each pair"
        )


def _format(options: dict[str, Any]) -> str:
    if options["as_json"] and options["markdown"]:
        raise BadOption("--json: cannot be given with --markdown")
    return "json" if options["as_json"] else "markdown" if options["markdown"] else "text"


@cli.command("save-baseline")
@click.argument("name", metavar="NAME")
@click.argument("text", metavar="[RUN]", default="latest")
@click.option("--replace", is_flag=True, help="Take the place of a baseline of this name.")
@ROOT
def save_baseline(name: str, text: str, replace: bool, out: str) -> int:
    """Keep a copy of a run in DIR/baselines, for compare --baseline NAME."""
    from xorbench.commands import compare as command

    folder = command.save_baseline(_root(out), _named("NAME", name), text, replace=replace)
    _say(f"xorbench: baseline in {_shown(folder)}", err=True)
    return 0


@cli.command()
@click.option("--merge", is_flag=True, help="Judge the run folders that are named, train nothing.")
@click.argument("folders", metavar="[DIR …]", nargs=-1)
@click.option("--out", default="fleet", metavar="DIR", help="A new folder for all of it [fleet].")
@click.option("--batch-sizes", default="32,128", metavar="LIST", help="Points per step [32,128].")
@recipe_options(RECIPE_OPTIONS)
@click.option("--processes", default="1", metavar="N", help="Fresh processes for each case [1].")
@click.option("--no-collective", is_flag=True, help="Leave out the training of all ranks together.")
@click.option("--deadline", default="600", metavar="S", help="Seconds to wait for the ranks [600].")
@click.option("--timeout", default="120", metavar="S", help="Seconds to wait for one answer.")
@click.option(
    "--slow-threshold", default="1.1", metavar="X", help="Slower than X medians is worth a finding."
)
@click.option("--atlas", metavar="FILE", help="Compare every rank with the digests on record.")
@click.option("--baseline", metavar="FILE", help="An earlier fleet.json: is all of it slower?")
@JUNIT
@MARKDOWN
@JSON
@click.option("--inject", multiple=True, hidden=True)
def fleet(**options: Any) -> int:
    """Judge many machines: who computes other bits, who is slow, who is missing.

    Started by torchrun or srun each rank drives its own device; alone it is a fleet of one.
    fleet.json, fleet.md, fleet.html and cordon.txt (the nodes to isolate) are written to --out.
    """
    from xorbench.commands import fleet as command

    out = _root(options["out"])
    fleet_options = command.FleetOptions(
        command=_command(anonymous=False),
        threshold=parse.real("--slow-threshold", options["slow_threshold"], 1, 1e6),
        atlas=_path(options["atlas"]),
        baseline=_path(options["baseline"]),
    )
    if options["merge"] != bool(options["folders"]):
        raise BadOption("--merge: needs the run folders to judge", "fleet --merge DIR …")
    thresholds = fleet_options.read()
    if not options["merge"]:
        return _take_part(options, out, thresholds)
    exports = _exports(options)
    outcome = command.merge([Path(folder) for folder in options["folders"]], out, thresholds)
    return _print_outcome(outcome, options["as_json"], exports)


def _take_part(options: dict[str, Any], out: Path, thresholds: Any) -> int:
    """Do this rank's share; only rank 0 has something to show."""
    from xorbench.commands import ranks as command

    command.require_faults(options["inject"])
    batches = parse.integers("--batch-sizes", options["batch_sizes"], 1, 10_000_000)
    fleet_request = command.FleetRequest(
        recipe=_recipe(options, RECIPE_OPTIONS),
        axes={"batch_size": batches, "pin_memory": (False,), "drop_last": (True,)},
        command=thresholds.fleet_options.command,
        out=out,
        thresholds=thresholds,
        processes_per_config=parse.integer("--processes", options["processes"], 1, 64),
        timeout_s=_timeout_s(options),
        deadline_s=parse.positive("--deadline", options["deadline"], 1e7),
        collective=not options["no_collective"],
        faults=options["inject"],
    )
    here = command.here()
    exports = _exports(options) if here.rank == 0 else None
    outcome = command.take_part(fleet_request, here, _note)
    if isinstance(outcome, int):
        return outcome
    return _print_outcome(outcome, options["as_json"], exports)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


@cli.group()
def atlas() -> None:
    """Keep the digests of the PyTorch training on record, by environment."""


@atlas.command("add")
@click.argument("text", metavar="[RUN]", default="latest")
@click.option("--atlas", "file", metavar="FILE", help="The data file [DIR/baselines/atlas.json].")
@ROOT
def atlas_add(text: str, file: str | None, out: str) -> int:
    """Put a run on record; a known environment that gives other bits is a failure."""
    from xorbench.commands import atlas as command
    from xorbench.report import atlas as report

    added = command.add(_root(out), text, _atlas(file, out))
    _say(report.changes(added.changes))
    return added.exit_code


@atlas.command("show")
@click.option("--atlas", "file", metavar="FILE", help="The data file [DIR/baselines/atlas.json].")
@ROOT
@JSON
def atlas_show(file: str | None, out: str, as_json: bool) -> int:
    """Show what is on record."""
    from xorbench.commands import atlas as command
    from xorbench.report import atlas as report

    found, code = command.show(_atlas(file, out))
    _say(report.as_json(found) if as_json else report.text(found))
    return code


def _atlas(file: str | None, out: str) -> Path:
    return Path(file) if file else _root(out) / "baselines" / "atlas.json"


@cli.command()
@click.argument("text", metavar="RUN")
@click.option("--to", "file_format", required=True, metavar="FORMAT", help="pytest-benchmark.")
@click.argument("file", metavar="FILE")
@ROOT
def export(text: str, file_format: str, file: str, out: str) -> int:
    """Write a run as a file of another program: an epoch is a round, a case a benchmark."""
    from xorbench.commands import pytest_benchmark as command

    file_format = parse.word("--to", file_format, tuple(command.EXPORTS))
    path = _file("FILE", file)
    count = command.export(_root(out), text, file_format, path)
    _say(f"{path}: {count} benchmarks")
    return 0


@cli.command("import")
@click.argument("file", metavar="FILE")
@ROOT
@click.option("--name", metavar="NAME", help="A name to find it by.")
@click.option("--anonymous", is_flag=True, help="No host name, absolute path or UUID in the files.")
@JSON
def import_(**options: Any) -> int:
    """Make a run of a file of pytest-benchmark, for report and compare.

    What such a file lacks stays absent: it has no epoch digests, calibration times or weights,
    so only raw times can be compared.
    """
    from xorbench.commands.pytest_benchmark import ImportRequest
    from xorbench.commands.pytest_benchmark import import_ as command

    request = ImportRequest(
        file=options["file"],
        command=_command(options["anonymous"]),
        root=_root(options["out"]),
        name=_name(options["name"]),
        anonymous=options["anonymous"],
    )
    return _print_outcome(command(request), options["as_json"])


@cli.command()
@click.option("--anonymous", is_flag=True, help="No host name, absolute path or UUID.")
@click.option("--json", "_as_json", is_flag=True, help="What it prints anyway.")
def env(anonymous: bool, _as_json: bool) -> int:
    """Show this machine as a training process sees it, as JSON for a bug report."""
    from xorbench.commands.env import env as command
    from xorbench.observe.store import without_names

    described = command(anonymous=anonymous)
    _say(json.dumps(without_names(described) if anonymous else described, indent=2))
    return 0


@cli.command("list")
@JSON
def list_(as_json: bool) -> int:
    """List the settings, the fields of the recipe, and the checks."""
    from xorbench.commands.listing import LISTS
    from xorbench.report.text import to_terminal

    frames = {name: table() for name, table in LISTS.items()}
    if as_json:
        _say(json.dumps({n: f.to_dict("records") for n, f in frames.items()}, indent=2))
    else:
        _say("\n\n".join(f"{n}\n\n{to_terminal(f)}" for n, f in frames.items()))
    return 0


def _exports(options: dict[str, Any]) -> Any:
    from xorbench.commands.ci_outputs import opened

    return opened(options["junit"], options["markdown"])


def _note(text: str) -> None:
    if text:
        _say(f"xorbench: {text}", err=True)


def _print_outcome(outcome: Any, as_json: bool, exports: Any = None) -> int:
    from xorbench.report import document

    if as_json:
        _say(document.as_json(outcome.content, outcome.exit_code))
    else:
        _say(document.terminal(outcome.content))
    if outcome.folder is not None:
        _note(f"report in {_shown(outcome.folder)}")
    if exports is not None:
        content = outcome.content
        texts = partial(document.markdown, content), partial(document.brief, content)
        _note(exports.write(content.verdicts, content.id, *texts))
    code: int = outcome.exit_code
    return code


def _shown(folder: Path) -> Path:
    """The folder from here, if it lies below; else in full."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _print_preview(preview: Any, as_json: bool) -> int:
    from xorbench.report import document

    show = document.preview_json if as_json else document.preview_text
    _say(show(preview.cases, preview.processes, preview.estimate_s))
    return 0
