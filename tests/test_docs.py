"""README and docs match the reference reports and the program."""

import ast
import gzip
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from xorbench.cli import cli
from xorbench.cli.groups import walk
from xorbench.xor.matrix.case import Case

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
REFERENCE = ROOT / "results" / "reference"


def table_rows(page: str, title: str) -> list[list[str]]:
    """The cells of each row of the marked table, without its header."""
    text = (ROOT / page).read_text()
    (table,) = re.findall(rf"<!-- reference: {title}.*?-->\n(.*?)<!-- end -->", text, re.DOTALL)
    table = table.replace("\N{NO-BREAK SPACE}", " ")
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def report_rows(report: str) -> list[list[str]]:
    """The cells of each row of each table of a reference report."""
    lines = (REFERENCE / report / "report.md").read_text().splitlines()
    return [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line.startswith("|")]


@pytest.mark.parametrize(
    ("title", "report"),
    [
        ("table epyc-2core-cpu Throughput", "epyc-2core-cpu"),
        ("table epyc-2core-cpu Accuracy", "epyc-2core-cpu"),
        ("table epyc-2core-cpu Determinism", "epyc-2core-cpu"),
        ("table epyc-2core-cpu-sweep Outcomes", "epyc-2core-cpu-sweep"),
    ],
)
def test_the_reference_tables_are_the_reference_reports(title: str, report: str) -> None:
    """Each row has the cells of a row of the committed report, letter for letter."""
    rows = table_rows("results/reference/README.md", title)
    assert len(rows) >= 4
    for row in rows:
        assert any(set(row) <= set(whole) for whole in report_rows(report)), row


def test_the_readmes_table_is_the_reference_run() -> None:
    """Each case has the speed and score of the committed report, and its identical processes.

    The test counts identical processes from the epoch digests of the records.
    """
    folder = REFERENCE / "epyc-2core-cpu"
    by_case = {row[0]: row[1:] for row in reversed(report_rows(folder.name))}  # the first table
    ends = [end for end in records(folder, "results") if "skipped" not in end]
    scores = {(end["case"]["id"], end["process"]): end["test"] for end in ends}
    digests: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in records(folder, "epochs"):
        if not line.get("warmup"):
            digests[line["case"]][line["process"]].append(line["digest"])
    rows = table_rows("README.md", "matrix epyc-2core-cpu")
    for device, size, pinned, dropped, samples, correct, identical in rows:
        if samples.startswith("not tested"):
            continue
        case = Case(device, "loader", int(size), pinned == "true", dropped == "true").id
        assert samples == by_case[case][0]
        test = min(
            (s for (name, _), s in scores.items() if name == case), key=itemgetter("correct")
        )
        assert correct == f"{test['correct']} of {test['total']}"
        first, *others = digests[case].values()
        assert identical == f"{1 + others.count(first)} of {1 + len(others)}"
    assert len(rows) == 13
    assert rows[-1][0] == "cuda"


def records(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The lines of a compressed file of records."""
    with gzip.open(folder / f"{name}.jsonl.gz", "rt") as lines:
        yield from map(json.loads, lines)


def test_the_reference_sweep_adds_up_and_has_the_specified_count() -> None:
    """Every seed is counted once, and the combined digest of the specification is checked."""
    folder = ROOT / "results" / "reference" / "epyc-2core-cpu-sweep"
    rows = pd.read_csv(folder / "sweep.csv").set_index("batch_size")
    assert rows["seeds"].tolist() == [65_536] * 4
    assert (rows["all correct"] == rows["seeds"] - rows["never"] - rows["lost at the end"]).all()
    verdicts = json.loads((folder / "verdicts.json").read_text())
    assert {v["outcome"] for v in verdicts} == {"pass"}
    assert "golden combined" in {v["check"] for v in verdicts}


def test_ci_runs_the_readmes_test_command() -> None:
    """`.ci/run` extracts one line, which ends in tox, from the README."""
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


def test_the_readme_is_short() -> None:
    """At most 130 lines, of which the table of the reference run takes about 20."""
    assert len(README.splitlines()) <= 130


def test_the_reference_pages_are_current() -> None:
    """`docs/make_reference.py` generates them, and every command has a section."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    assert (ROOT / "docs" / "commands.md").read_text() == pages.commands_text()
    assert (ROOT / "docs" / "checks.md").read_text() == pages.checks_text()
    for page in pages.FILLED:
        assert page.read_text() == pages.filled(page.read_text())
    sections = set(re.findall(r"^### (.+)$", pages.commands_text(), re.M)) - {"Recipe"}
    groups = {"baseline", "fleet atlas", "pytest-benchmark"}
    assert sections == {" ".join(words) for words, _ in walk(cli) if words} - groups


def test_the_examples_need_nothing_but_the_install() -> None:
    """Every import of a script is the standard library or a dependency of xorbench.

    The tutorial's tests need pytest as well, which the page installs.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = [*project["dependencies"], *extras["all"], *extras["run"], *extras["speed"]]
    allowed = {re.split(r"[^\w-]", name)[0] for name in names}
    scripts = list((ROOT / "examples").glob("*.py"))
    allowed |= {script.stem for script in scripts} | sys.stdlib_module_names
    for script in scripts:
        with_tests = allowed | ({"pytest"} if script.name == "lessons.py" else set())
        for node in ast.walk(ast.parse(script.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= with_tests, script.name


def test_every_exit_code_is_documented() -> None:
    """The README has a column for each."""
    for code in (0, 1, 2, 3, 4, 130):
        assert f"| {code} |" in README


def test_the_reference_is_light() -> None:
    """At most 4 MB: every clone of the project contains it."""
    assert sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file()) <= 4_000_000


def test_the_reference_names_no_machine_path_or_host() -> None:
    """Committed reports are anonymous: no absolute path, no host name."""
    for path in REFERENCE.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
            assert "hostname" not in text, path
            assert not re.search(r"(?<![\w.<])/(home|root|usr|opt|tmp|work|Users)/", text), path
