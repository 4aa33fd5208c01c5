"""The interface that docs/stability.md promises, as names: `stable_interface.json`.

    python tests/stable_interface.py

writes the file from scratch, in about a minute: it runs commands for the keys of their JSON.
`test_stable_interface.py` compares the file with the program.
"""

import inspect
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

import xorbench
from xorbench import errors
from xorbench.cli import cli
from xorbench.pytest_plugin import XorbenchFixture
from xorbench.xor.run import run as running

ROOT: Final = Path(__file__).parents[1]
REFERENCE: Final = ROOT / "results" / "reference"
STORED: Final = ROOT / "tests" / "stable_interface.json"
PYTHON: Final = ("check", "run", "load_run", "compare")
RESULTS: Final = ("CheckResult", "RunResult", "ComparisonResult")
ERRORS: Final = ("XorbenchError", "BadOption", "BadFile")
RUNS: Final = ("epyc-2core-cpu", "epyc-2core-cpu-engines")
# Objects whose keys are names of data: cases, devices, variables, details.
OPEN: Final = {"details", "devices", "heading", "environment", "recipe", "tables"}
TRAINING: Final = """
import sys, torch
from pathlib import Path
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
saved, first = Path("saved.pt"), 0
if "--resume" in sys.argv and saved.exists():
    first, state = torch.load(saved)
    model.load_state_dict(state)
for step in range(first, 6):
    loss = model(torch.ones(4, 3)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    torch.save((step + 1, model.state_dict()), saved)
"""
TRAIN: Final = f"{sys.executable} train.py"
OTHER: Final = f"{TRAIN} again"
# The commands whose JSON is stored.
COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "check": ("check", "--json", "--", *TRAIN.split()),
    "check --resume": (
        *("check", "--json", "--kill-after", "3", "--resume", f"{TRAIN} --resume"),
        *("--", *TRAIN.split()),
    ),
    "check --against": (
        *("check", "--json", "--processes", "2", "--skip", "1", "--against", OTHER),
        *("--", *TRAIN.split()),
    ),
    "explain": ("explain", "--json", "--processes", "4", "--", *TRAIN.split()),
    "canary": ("canary", "--json", "--probes", "reduction"),
    "env": ("env",),
    "report": ("report", "--json", str(REFERENCE / RUNS[0])),
    "compare": ("compare", "--json", *(str(REFERENCE / name) for name in RUNS)),
}


def interface() -> dict[str, Any]:
    """Everything that is read from the program without running a command."""
    return {
        "python": dict(_python()),
        "exit codes": {
            name: value
            for name, value in vars(errors).items()
            if name.isupper() and isinstance(value, int)
        },
        "options": dict(_options(cli, "xorbench")),
        "csv": dict(_columns()),
    }


def _python() -> Iterator[tuple[str, Any]]:
    for name in PYTHON:
        yield f"xorbench.{name}", _parameters(getattr(xorbench, name))
    yield "fixture xorbench.check", _parameters(XorbenchFixture.check)[1:]
    for name in RESULTS:
        yield f"xorbench.{name}", _members(getattr(xorbench, name))
    for name in ERRORS:
        kind = getattr(errors, name)
        yield f"xorbench.errors.{name}", [*sorted(vars(kind("", ""))), "exit_code"]


def _parameters(function: Any) -> list[str]:
    """Each parameter with its default, and a star before those that are given by name."""
    signature = inspect.signature(function)
    plain = [_plain(parameter) for parameter in signature.parameters.values()]
    return str(inspect.Signature(plain))[1:-1].split(", ")


def _plain(parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter without its type, and without the address of a default function."""
    is_function = inspect.isfunction(parameter.default)
    default = ... if is_function else parameter.default
    return parameter.replace(annotation=parameter.empty, default=default)


def _members(kind: type) -> list[str]:
    """The public fields, properties and methods of a result."""
    names = {*getattr(kind, "__dataclass_fields__", ()), *dir(kind)}
    return sorted(name for name in names if not name.startswith("_"))


def _options(command: click.Command, path: str) -> Iterator[tuple[str, list[str]]]:
    """The arguments and options of each command, hidden ones and `--help` excluded."""
    context = click.Context(command)
    parameters = [p for p in command.params if not getattr(p, "hidden", False)]
    yield path, sorted(_parameter(parameter) for parameter in parameters)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _options(child, f"{path} {name}")


def _parameter(parameter: click.Parameter) -> str:
    names = "/".join([*parameter.opts, *parameter.secondary_opts])
    if isinstance(parameter, click.Argument):
        return f"argument {names}{' …' if parameter.nargs != 1 else ''}"
    is_flag = getattr(parameter, "is_flag", False) or parameter.name == "version"
    several = " …" if parameter.multiple else ""
    return names if is_flag else f"{names} VALUE{several}"


def _columns() -> Iterator[tuple[str, list[str]]]:
    """The columns of each table of a run that is written as CSV."""
    for name in RUNS:
        for section in running.judged(REFERENCE / name).content.sections:
            if section.csv is not None:
                yield f"{section.name}.csv", [str(column) for column in section.csv.columns]


def paths(value: Any, prefix: str = "") -> Iterator[str]:
    """The keys of a JSON value, joined by dots; `[]` is an element of a list."""
    if isinstance(value, dict):
        for key, inner in value.items():
            here = f"{prefix}.{key}".lstrip(".")
            yield here
            if key not in OPEN:
                yield from paths(inner, here)
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{prefix}[]")


def outputs() -> dict[str, list[str]]:
    """The keys of the JSON that commands print; they run in a temporary folder."""
    keys = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train.py").write_text(TRAINING)
        for name, words in COMMANDS.items():
            done = subprocess.run(
                [sys.executable, "-m", "xorbench", *words],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            if not done.stdout.startswith("{"):
                raise AssertionError(f"{name}: {done.stdout}{done.stderr}")
            keys[name] = sorted(set(paths(json.loads(done.stdout))))
    return keys


def main() -> None:
    """Write the file."""
    stored = {**interface(), "json": outputs()}
    STORED.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
