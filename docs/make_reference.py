"""Write docs/commands.md and docs/checks.md, and fill the marked blocks of other pages.

python docs/make_reference.py

The commands come from the command line, the checks from their registry. A block begins with
`<!-- reference: NAME ARGUMENTS -->` and ends with `<!-- end -->`; `BLOCKS` has the names.
"""

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path

import click
from tabulate import tabulate

from xorbench.cli import command
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

HERE = Path(__file__).parent
ROOT = HERE.parent
REFERENCE = ROOT / "results" / "reference"
FILLED = (
    ROOT / "README.md",
    REFERENCE / "README.md",
    ROOT / "examples" / "README.md",
)
BLOCK = re.compile(r"<!-- reference: (?P<words>[^>]+?) -->\n.*?<!-- end -->", re.DOTALL)
QUESTIONS = {
    "Is my training right, the same, as fast?": ("check", "explain", "trace", "diff"),
    "Is this machine sound?": ("canary", "run", "sweep", "selftest"),
    "Did something change?": ("compare", "calibrate", "save-baseline", "report", "list", "env"),
    "Many machines": ("fleet", "atlas"),
    "Other tools": ("export", "import"),
}
HEAD = """# Commands

Made by `python docs/make_reference.py` from the command line itself. `xorbench` and
`python -m xorbench` are the same. `RUN` is a path, an id, a unique prefix, a name, or `latest`.
Lists are separated by commas. Every command takes `--debug`, which shows the traceback of an
error. [Exit codes](../README.md#exit-codes).
"""


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
    of_sweeps = [f"- **{name}**: {of_sweep(check)}\n" for name, check in SWEEP_CHECKS.items()]
    return "".join([CHECKS_HEAD, *of_runs, CHECKS_END, *of_sweeps])


def checks_of(question: str) -> Iterator[str]:
    """The heading of a question, and a line for each of its checks."""
    yield f"\n## {question}\n"
    for check in CHECKS.values():
        if check.question == question:
            needs = f"; needs {check.needs}" if check.needs else ""
            yield f"- **{check.name}**: {check.passes_when}{needs}\n"


def of_sweep(check: object) -> str:
    """What passes it, as its docstring says."""
    said = (check.__doc__ or "").splitlines()[0].rstrip(".")
    return f"{said[:1].lower()}{said[1:]}"


def commands_text() -> str:
    """The page of commands."""
    parts = [HEAD]
    for question, names in QUESTIONS.items():
        parts.append(f"## {question}\n")
        for name in names:
            parts += section(name, command(name))
    return "\n".join(parts)


def section(name: str, one: click.Command) -> Iterator[str]:
    """A command, or each command of a group."""
    if isinstance(one, click.Group):
        for inner, part in one.commands.items():
            yield from section(f"{name} {inner}", part)
        return
    context = click.Context(one, info_name=f"xorbench {name}")
    usage = one.get_usage(context).removeprefix("Usage: ")
    yield f"### {name}\n"
    yield f"{' '.join((one.help or '').split())}\n"
    yield f"```text\n{' '.join(usage.split())}\n```\n"
    shown = [row for part in one.params if (row := part.get_help_record(context))]
    if rows := [row for row in shown if row[0].startswith("-") and "--help" not in row[0]]:
        yield "| option | |\n| --- | --- |"
        yield from (f"| `{option}` | {cell(about)} |" for option, about in rows)
        yield ""


def cell(about: str) -> str:
    """A help text in a cell of a table."""
    return " ".join(about.split()).replace("|", "\\|")


def filled(text: str) -> str:
    """A page with its marked blocks as the reference reports and the program have them."""
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

    Cases with other batch sizes, or with a setting that has no column, are counted below it.
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
    """The settings that do nothing on the machine of a run, with the reason."""
    accelerator = has_accelerator(evidence.run)
    notes = dict.fromkeys(idle_note(v.case, accelerator) for v in evidence.variants)
    return [f"`pin_memory`: {note}." for note in notes if "pin_memory" in note]


def other_settings(case: Case, sizes: Sequence[int]) -> str:
    """The settings of a case for which the matrix has no row or column, as `num_workers 2`."""
    values = {f.name: getattr(case, f.name) for f in fields(case) if f.init}
    names = [f.name for f in fields(case) if f.init and f.name not in SHOWN]
    changed = [name for name in names if values[name] != getattr(Case(), name)]
    if case.batch_size not in sizes:
        changed.insert(0, "batch_size")
    return ", ".join(f"`{name}` {spelled(values[name])}" for name in changed)


def spelled(value: object) -> str:
    """A setting as the command line spells it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def scores(evidence: Evidence, variant: Variant) -> tuple[str, str]:
    """The test score of the worst process, and how many processes recorded the same epochs."""
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
