"""The tutorial's statements: examples/lessons.py run as a reader runs it."""

import ast
import importlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import once

EXAMPLES = Path(__file__).parents[1] / "examples"
TIMED = {"test_no_grad_time", "test_pinned_copies"}  # a busy machine may show no difference
NEED_ACCELERATOR = {"test_pinned_memory", "test_pinned_copies"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ET.Element]:
    """The JUnit test case of each test, from one run in a copy of the examples."""

    def make(folder: Path) -> None:
        for name in ("lessons.py", "xor.py"):
            shutil.copy(EXAMPLES / name, folder)
        words = [sys.executable, "-m", "pytest", "lessons.py", "--junitxml", "lessons.xml"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stdout

    folder = once(tmp_path_factory, "lessons", make)
    cases = ET.parse(folder / "lessons.xml").iter("testcase")
    return {case.attrib["name"]: case for case in cases}


def test_each_statement_holds_on_this_machine(results: dict[str, ET.Element]) -> None:
    """Only times may not; each records its statement and a number."""
    statements = {name: case for name, case in results.items() if "[" not in name}
    assert len(statements) == 17
    for name, case in statements.items():
        if name in NEED_ACCELERATOR and not torch.accelerator.is_available():
            continue
        assert case.find("failure") is None or name in TIMED
        values = {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}
        assert values["statement"].endswith(".")
        assert any(character.isdigit() for character in values["measured"])


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_two_statements_need_an_accelerator(results: dict[str, ET.Element]) -> None:
    """Without one they are skipped, with the reason."""
    skipped = {n: s.attrib["message"] for n, case in results.items() for s in case.iter("skipped")}
    assert skipped == {
        "test_pinned_memory": "no accelerator: PyTorch pins nothing without one",
        "test_pinned_copies": "no accelerator: nothing is copied anywhere",
    }


def test_the_contrary_of_each_statement_fails(results: dict[str, ET.Element]) -> None:
    """A measurement that cannot say no is not trusted."""
    contraries = {n.partition("[")[2][:-1]: case for n, case in results.items() if "[" in n}
    assert {f"test_{name}" for name in contraries} == {n for n in results if "[" not in n}
    assert all(list(case) == [] for case in contraries.values())


def test_a_reader_needs_only_pytorch_and_pytest() -> None:
    """It imports nothing else but the script of the tutorial."""
    tree = ast.parse((EXAMPLES / "lessons.py").read_text())
    names = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    roots = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert roots == {"torch", "pytest", "xor"}


def test_a_ratio_of_times_has_the_interval_of_its_median(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that goes twice as fast for one of them, the ratio is two, to the digit."""
    monkeypatch.syspath_prepend(EXAMPLES)
    lessons = importlib.import_module("lessons")
    now = [0.0]

    def take(seconds: float) -> Callable[[], None]:
        return lambda: now.__setitem__(0, now[0] + seconds)

    ratio = lessons.time_ratio(take(2.0), take(1.0), clock=lambda: now[0])
    assert ratio == (2.0, 2.0, 2.0, 61)
