"""Write docs/commands.md and docs/checks.md, and fill the marked blocks of other pages.

python docs/make_reference.py

The commands are read from the command line, the checks from their registry. A block begins with
`<!-- reference: NAME ARGUMENTS -->` and ends with `<!-- end -->`; `BLOCKS` lists the names.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import click
from tabulate import tabulate

from xorbench.cli import SECTIONS, cli, command
from xorbench.cli.groups import walk
from xorbench.machine.sweep.results import SWEEP_CHECKS
from xorbench.records import loading
from xorbench.report.details import machine_line
from xorbench.stats.figure import number
from xorbench.stats.intervals import pooled
from xorbench.xor.analysis import speed
from xorbench.xor.analysis.cost_model import has_accelerator
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks import CHECKS
from xorbench.xor.matrix.axes import idle_note
from xorbench.xor.matrix.case import Case, Variant
from xorbench.xor.matrix.recipe import RECIPE_OPTIONS

HERE = Path(__file__).parent
ROOT = HERE.parent
REFERENCE = ROOT / "results" / "reference"
FILLED = (
    ROOT / "README.md",
    REFERENCE / "README.md",
    ROOT / "examples" / "README.md",
)
BLOCK = re.compile(r"<!-- reference: (?P<words>[^>]+?) -->\n.*?<!-- end -->", re.DOTALL)
HEAD = """# Commands

Generated from the command line by `python docs/make_reference.py`. `xorbench` and
`python -m xorbench` are equivalent. `RUN` is a path, an id, a unique prefix, a name, or `latest`.
Lists are comma-separated. Defaults are in brackets. Every command accepts `--help`, and `--debug`
for the traceback of an error. [Exit codes](../README.md#exit-codes).

## Shared options
These options have the same meaning in each command that accepts them.

"""
RECIPE_HEAD = """
### Recipe

"""
RECIPE = [row.option for row in RECIPE_OPTIONS]
WITH_CMD = "With CMD: "


CHECKS_HEAD = """# Checks

Made by `python docs/make_reference.py`. The checks of `run` by the question that they answer, with
their names in `verdicts.json` and the condition for a pass. `canary` reports *arithmetic*,
*universal*, *accuracy*, each [exact probe](probes.md) by its name, and *speed*, with `--burn-in`
also *burn-in*. *completion* and *device* appear where a device fails or is missing.
"""
CHECKS_END = """
A test of each check sees it fail: in a real run with an injected fault, and for *parity*, which
needs an accelerator, on a changed record. Three checks detect faults that are
[identical in every process](correctness.md). Other packages [add checks](extending.md).

## Checks of a sweep
"""


def checks_text() -> str:
    """The page of checks."""
    questions = dict.fromkeys(check.question for check in CHECKS.values())
    of_runs = [line for question in questions for line in checks_of(question)]
    of_sweeps = [f"- **{name}**: {condition(check)}\n" for name, check in SWEEP_CHECKS.items()]
    return "".join([CHECKS_HEAD, *of_runs, CHECKS_END, *of_sweeps])


def checks_of(question: str) -> Iterator[str]:
    """The heading of a question, and a line for each of its checks."""
    yield f"\n## {question}\n"
    for check in CHECKS.values():
        if check.question == question:
            needs = f"; needs {check.needs}" if check.needs else ""
            yield f"- **{check.name}**: {check.passes_when}{needs}\n"


def condition(check: object) -> str:
    """The condition of a check, from its docstring."""
    sentence = (check.__doc__ or "").splitlines()[0].rstrip(".")
    return f"{sentence[:1].lower()}{sentence[1:]}"


def commands_text() -> str:
    """The page of commands."""
    shared = shared_options()
    recipe = [row for name, row in shared.items() if name in RECIPE]
    others = [row for name, row in shared.items() if name not in RECIPE]
    parts = [HEAD, *map(line, others), RECIPE_HEAD, *map(line, recipe)]
    for heading, names in SECTIONS.items():
        parts.append(f"\n## {heading}\n")
        for name in names:
            for words, subcommand in walk(command(name), name):
                parts += section(" ".join(words), subcommand, set(shared.values()))
    return "".join(parts)


class OptionRow(NamedTuple):
    """An option of a command: its long name, its spelling with the metavar, and its help."""

    name: str
    spelling: str
    about: str


def option_rows(subcommand: click.Command) -> Iterator[OptionRow]:
    """The options of a command that its help shows."""
    context = click.Context(subcommand)
    for parameter in subcommand.params:
        if isinstance(parameter, click.Option) and (shown := parameter.get_help_record(context)):
            yield OptionRow(parameter.opts[-1], shown[0], " ".join(shown[1].split()))


def unconditional(row: OptionRow) -> OptionRow:
    """The option as a command describes it that always accepts it."""
    about = row.about.removeprefix(WITH_CMD)
    return row._replace(about=about[:1].upper() + about[1:])


def shared_options() -> dict[str, OptionRow]:
    """The options that several commands describe in the same way, by name."""
    rows = [unconditional(row) for _, subcommand in walk(cli) for row in option_rows(subcommand)]
    shared = {row.name: row for row, count in Counter(rows).most_common()[::-1] if count > 1}
    return {row.name: shared[row.name] for row in rows if row.name in shared}


def section(name: str, subcommand: click.Command, shared: set[OptionRow]) -> Iterator[str]:
    """A command: its help, usage, own options, and the names of its shared options."""
    rows = list(option_rows(subcommand))
    if isinstance(subcommand, click.Group) and not rows:
        return
    usage = subcommand.get_usage(click.Context(subcommand, info_name=f"xorbench {name}"))
    yield f"\n### {name}\n\n`{' '.join(usage.removeprefix('Usage: ').split())}`\n\n"
    yield f"{' '.join((subcommand.help or '').split())}\n\n"
    yield from (line(row) for row in rows if unconditional(row) not in shared)
    names = [row.name for row in rows if row in shared]
    conditional = [row.name for row in rows if row not in shared and unconditional(row) in shared]
    if names:
        yield f"- Shared: {listed(names)}.\n"
    if conditional:
        yield f"- Shared, only with CMD: {listed(conditional)}.\n"


def listed(names: Sequence[str]) -> str:
    """Names of options; those of the recipe are a link if all are there."""
    if set(RECIPE) <= set(names):
        others = [name for name in names if name not in RECIPE]
        return ", ".join(["[the recipe](#recipe)", *(f"`{name}`" for name in others)])
    return ", ".join(f"`{name}`" for name in names)


def line(row: OptionRow) -> str:
    """An option as an item of a list."""
    return f"- `{row.spelling}`: {row.about}\n"


def filled(text: str) -> str:
    """A page with current marked blocks."""
    return BLOCK.sub(lambda match: block(match["words"]), text)


def block(words: str) -> str:
    """A marked block with its markers."""
    name, *arguments = words.split(maxsplit=2)
    return f"<!-- reference: {words} -->\n{BLOCKS[name](*arguments)}\n<!-- end -->"


def report_table(folder: str, words: str) -> str:
    """Columns of the table below a heading of a reference report: `HEADING: COLUMN, COLUMN`.

    Without columns, all of them and the notes.
    """
    title, _, wanted = words.partition(": ")
    report = (REFERENCE / folder / "report.md").read_text(encoding="utf-8")
    section = report.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    table = section[section.index("\n|") :].strip()
    if not wanted:
        return table
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("|")]
    header = [cell.strip() for cell in rows[0]]
    places = [header.index(name) for name in wanted.split(", ")]
    return "\n".join("|".join(["", *(row[i] for i in places), ""]) for row in rows)


SHOWN = {
    "device": "device",
    "batch_size": "batch size",
    "pin_memory": "pin_memory",
    "drop_last": "drop_last",
}
COLUMNS = (*SHOWN.values(), "samples/s [95% interval]", "test correct", "identical processes")
NO_BREAK = "\N{NO-BREAK SPACE}"
RIGHT_ALIGNED = ("batch size", "samples/s [95% interval]")


def matrix(folder: str, batch_sizes: str) -> str:
    """The matrix of a reference run: speed, score and reproducibility of each case.

    Cases with different batch sizes, or with a setting that has no column, are counted below it.
    """
    sizes = [int(size) for size in batch_sizes.split(",")]
    evidence = Evidence(loading.load(REFERENCE / folder))
    speeds = pooled(speed.by_variant(evidence, lambda training: -speed.log_epoch(training)))
    rows, others = [], []
    for variant in evidence.variants:
        if changed := other_settings(variant.case, sizes):
            others.append(changed)
            continue
        row = [spelled(getattr(variant.case, name)) for name in SHOWN]
        samples = variant.recipe.samples(variant.case.batch_size, variant.case.drop_last)
        estimate = speeds[variant.id]
        values = [estimate.value, estimate.low, estimate.high]
        value, low, high = (number((x or 0) * samples) for x in values)
        results = (f"{value} [{low}, {high}]", *scores(evidence, variant))
        rows.append([*row, *(cell.replace(" ", NO_BREAK) for cell in results)])
    rows += [[*row, "", ""] for row in not_tested(evidence)]
    align = ["right" if name in RIGHT_ALIGNED else "left" for name in COLUMNS]
    table = tabulate(rows, headers=COLUMNS, tablefmt="pipe", colalign=align, disable_numparse=True)
    return "\n\n".join([machine(evidence, others), table, *no_effect(evidence)])


def no_effect(evidence: Evidence) -> list[str]:
    """The settings without effect on the machine of a run, with the reason."""
    accelerator = has_accelerator(evidence.run)
    notes = dict.fromkeys(idle_note(v.case, accelerator) for v in evidence.variants)
    return [f"`pin_memory`: {note}." for note in notes if "pin_memory" in note]


def other_settings(case: Case, sizes: Sequence[int]) -> str:
    """The settings of a case without a row or column in the matrix, as `num_workers 2`."""
    values = {f.name: getattr(case, f.name) for f in fields(case) if f.init}
    names = [f.name for f in fields(case) if f.init and f.name not in SHOWN]
    changed = [name for name in names if values[name] != getattr(Case(), name)]
    if case.batch_size not in sizes:
        changed.insert(0, "batch_size")
    return ", ".join(f"`{name}` {spelled(values[name])}" for name in changed)


def spelled(value: object) -> str:
    """A setting in the spelling of the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def scores(evidence: Evidence, variant: Variant) -> tuple[str, str]:
    """The test score of the worst process, and the number of identical processes."""
    trainings = evidence.trainings[variant.id]
    test = min((training.test for training in trainings), key=lambda test: test.correct)
    same = [t.epoch_digests == trainings[0].epoch_digests for t in trainings]
    return f"{test.correct} of {test.total}", f"{sum(same)} of {len(same)}"


def not_tested(evidence: Evidence) -> Iterator[list[str]]:
    """A row per device that the run could not use, with the reason."""
    reasons = {skip.case.device: skip.skipped for skip in evidence.run.skips}
    if not any(variant.case.device.startswith("cuda") for variant in evidence.planned):
        reasons.setdefault("cuda", "not requested in this run")
    for device, reason in reasons.items():
        yield [device, "", "", "", f"not tested: {reason}"]


def machine(evidence: Evidence, others: list[str]) -> str:
    """The machine, the software and the duration of a run in one line."""
    info = evidence.run.info
    start, end = (datetime.fromisoformat(text) for text in (info.started, info.finished or ""))
    trainings = sum(map(len, evidence.trainings.values()))
    settings = " or ".join(dict.fromkeys(others))
    also = f" Cases not shown: {len(others)}, with {settings}." if others else ""
    torch, python = (evidence.run.machine[f"{name}_version"] for name in ("torch", "python"))
    return (
        f"`{info.command}` on {machine_line(info.host)}; PyTorch {torch}, Python {python}."
        f" {trainings} trainings of {info.recipe.epochs} epochs in"
        f" {(end - start).total_seconds():.0f} s.{also}"
    )


def lessons() -> str:
    """Link each test of the tutorial's statements, with its docstring."""
    file = ROOT / "examples" / "lessons.py"
    tests = [
        node
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.args.defaults and node.name[:5] == "test_"
    ]
    rows = [(f"[`{test.name}`](lessons.py#L{test.lineno})", statement_of(test)) for test in tests]
    return tabulate(rows, ["test", "statement"], tablefmt="pipe")


def statement_of(test: ast.FunctionDef) -> str:
    """The first line of a docstring."""
    return (ast.get_docstring(test) or "").splitlines()[0]


BLOCKS: dict[str, Callable[..., str]] = {
    "lessons": lessons,
    "matrix": matrix,
    "table": report_table,
}

if __name__ == "__main__":
    for page in FILLED:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    (HERE / "commands.md").write_text(commands_text(), encoding="utf-8")
    (HERE / "checks.md").write_text(checks_text(), encoding="utf-8")
