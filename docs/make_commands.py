"""Write docs/commands.md from the command line itself.

python docs/make_commands.py
"""

from collections.abc import Iterator
from pathlib import Path

import click

from xorbench.cli import command

PAGE = Path(__file__).with_name("commands.md")
QUESTIONS = {
    "Is my training right, the same, as fast?": ("check", "explain", "trace", "diff"),
    "Is this machine sound?": ("canary", "run", "sweep", "selftest"),
    "Did something change?": ("compare", "save-baseline", "report", "list", "env"),
    "Many machines": ("fleet", "atlas"),
    "Other tools, and lessons": ("export", "import", "lessons"),
}
HEAD = """# Commands

Made by `python docs/make_commands.py` from the command line itself. `xorbench` and
`python -m xorbench` are the same. `RUN` is a path, an id, a unique prefix, a name, or `latest`.
Lists are separated by commas. Every command takes `--debug`, which shows the traceback of an
error. [Exit codes](../README.md#more).
"""


def text() -> str:
    """The page."""
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
    if rows := [row for row in shown if row[0].startswith("--") and "--help" not in row[0]]:
        yield "| option | |\n| --- | --- |"
        yield from (f"| `{option}` | {cell(about)} |" for option, about in rows)
        yield ""


def cell(about: str) -> str:
    """A help text in a cell of a table."""
    return " ".join(about.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
