"""The README and docs are true: tables from the reference reports, commands from the program."""

import gzip
import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from xorbench.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
REFERENCE = ROOT / "results" / "reference"


@pytest.mark.parametrize(
    ("number", "report"), [(1, "epyc-2core-cpu"), (2, "epyc-2core-cpu-sweep")], ids=str
)
def test_the_reference_tables_are_the_reference_reports(number: int, report: str) -> None:
    """Every row of a table stands in the committed report, letter for letter."""
    table = (
        (ROOT / "docs" / "reference-run.md")
        .read_text()
        .split("<!-- reference -->")[number]
        .partition("<!-- end -->")[0]
    )
    rows = [line for line in table.splitlines() if line.startswith("|")]
    text = (ROOT / "results" / "reference" / report / "report.md").read_text()
    assert len(rows) > 5
    assert set(rows) <= set(text.splitlines())


def test_the_reference_sweep_adds_up_and_has_the_specified_count() -> None:
    """Every seed is counted once, and those of the specification's combined digest are golden."""
    folder = ROOT / "results" / "reference" / "epyc-2core-cpu-sweep"
    rows = pd.read_csv(folder / "sweep.csv").set_index("batch size")
    assert rows["seeds"].tolist() == [65_536] * 4
    assert (rows["all right"] == rows["seeds"] - rows["never"] - rows["lost at the end"]).all()
    verdicts = json.loads((folder / "verdicts.json").read_text())
    assert {v["outcome"] for v in verdicts} == {"pass"}
    assert "golden combined" in {v["check"] for v in verdicts}


def test_ci_runs_the_readmes_test_command() -> None:
    """What `.ci/run` takes from the README is one line that ends in tox."""
    script = (ROOT / ".ci" / "run").read_text()
    extract = next(line for line in script.splitlines() if line.startswith("command="))
    shown = subprocess.run(
        ["bash", "-c", f'{extract}; printf %s "$command"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.count("\n") == 0
    assert shown.endswith("python -m tox")
    assert shown in README


def test_the_readme_fits_two_screens() -> None:
    """At most 120 lines: the rest stands in docs/."""
    assert len(README.splitlines()) <= 120


def test_the_reference_pages_are_current() -> None:
    """They are what `docs/make_reference.py` makes of the program, and no command is left out."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    assert (ROOT / "docs" / "commands.md").read_text() == pages.commands_text()
    assert (ROOT / "docs" / "checks.md").read_text() == pages.checks_text()
    assert {name for names in pages.QUESTIONS.values() for name in names} == set(COMMANDS)


def test_every_exit_code_is_documented() -> None:
    """The table names what the program has."""
    for code in (0, 1, 2, 3, 4, 130):
        assert f"| {code} |" in README


def test_the_reference_is_light() -> None:
    """At most 3 MB: who clones the project clones it too."""
    assert sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file()) <= 3_000_000


def test_the_reference_names_no_machine_path_or_host() -> None:
    """Committed reports are anonymous: no absolute path, no host name."""
    for path in REFERENCE.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
            assert "hostname" not in text, path
            assert not re.search(r"(?<![\w.<])/(home|root|usr|opt|tmp|work|Users)/", text), path
