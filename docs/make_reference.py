"""Write docs/commands.md from the command line, and docs/checks.md from the registry of checks.

python docs/make_reference.py
"""

from collections.abc import Iterator
from pathlib import Path

import click

from xorbench.cli import command
from xorbench.judge.checks import CHECKS
from xorbench.judge.sweep import SWEEP_CHECKS

HERE = Path(__file__).parent
QUESTIONS = {
    "Is my training right, the same, as fast?": ("check", "explain", "trace", "diff"),
    "Is this machine sound?": ("canary", "run", "sweep", "selftest"),
    "Did something change?": ("compare", "calibrate", "save-baseline", "report", "list", "env"),
    "Many machines": ("fleet", "atlas"),
    "Other tools, and lessons": ("export", "import", "lessons"),
}
HEAD = """# Commands

Made by `python docs/make_reference.py` from the command line itself. `xorbench` and
`python -m xorbench` are the same. `RUN` is a path, an id, a unique prefix, a name, or `latest`.
Lists are separated by commas. Every command takes `--debug`, which shows the traceback of an
error. [Exit codes](../README.md#exit-codes).
"""


CHECKS_HEAD = """# Checks

Made by `python docs/make_reference.py`. The checks of `run`, in the order of its report, by their
names in `verdicts.json`. `canary` reports *arithmetic*, *universal*, *accuracy*, each
[exact probe](probes.md) by its name, and *speed*; with `--burn-in` also *burn-in*. *completion* and
*device* appear where a device fails or is missing.

| check | passes when | question | needs |
| --- | --- | --- | --- |
"""
CHECKS_END = """
Each of them is seen to fail by a test: in a real run with a fault injected for every check; parity,
which needs an accelerator, on a doctored record. Three of them see faults that are
[the same in every process](right.md). Other packages [add checks](extending.md) of their own.

## Of a sweep

| check | passes when |
| --- | --- |
"""


def checks_text() -> str:
    """The page of checks."""
    rows = [
        f"| {check.name} | {check.passes_when} | {check.question} | {check.needs} |\n"
        for check in CHECKS.values()
    ]
    of_sweeps = [f"| {name} | {of_sweep(check)} |\n" for name, check in SWEEP_CHECKS.items()]
    return "".join([CHECKS_HEAD, *rows, CHECKS_END, *of_sweeps])


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


if __name__ == "__main__":
    (HERE / "commands.md").write_text(commands_text(), encoding="utf-8")
    (HERE / "checks.md").write_text(checks_text(), encoding="utf-8")
