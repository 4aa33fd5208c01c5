"""Faults that are the same in every process: each is seen by a check that asks no other process."""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import call_in

from xorbench.xor.matrix.recipe import Recipe

BENCH = Path(__file__).parents[2] / "bench"
SMALL = Recipe(epochs=2)


def _measure() -> ModuleType:
    """`bench/equal_faults.py`."""
    spec = importlib.util.spec_from_file_location("equal_faults", BENCH / "equal_faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


measure = _measure()
alike = sys.modules["alike"]
IN_PROCESS = [name for name, fault in alike.FAULTS.items() if fault.kind != "clock"]


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    yield
    alike.undo()


def test_a_sound_process_is_not_caught() -> None:
    """The negative control."""
    assert set(measure.caught(SMALL, 0)) == set()


@pytest.mark.parametrize("name", IN_PROCESS)
def test_every_fault_is_caught(name: str) -> None:
    """At its largest size, in one training."""
    fault = alike.FAULTS[name]
    fault.change(fault.largest)
    assert set(measure.caught(SMALL, 0)) != set()


TWO_FAULTS = """
import sitecustomize_of_one, sys
if "alike" in sys.modules:
    sys.modules["alike"].FAULTS["slow-clock"].change(9.0)
"""


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        ("scaled-tanh:1e-5", {"accuracy of arithmetic"}),
        ("scaled-recipe:1e-4", {"accuracy of arithmetic"}),
        ("exchanged-order:1", {"golden inputs", "clock"}),  # and a slow clock
    ],
)
def test_a_real_run_fails_by_the_check(fault: str, checks: set[str], tmp_path: Path) -> None:
    """Both processes have the fault alike, so that no comparison of theirs sees it."""
    shutil.copytree(BENCH / "hooks", tmp_path / "hooks")
    if "clock" in checks:
        hook = tmp_path / "hooks" / "sitecustomize.py"
        hook.rename(hook.with_name("sitecustomize_of_one.py"))
        hook.write_text(TWO_FAULTS)
    hooks = {**os.environ, "PYTHONPATH": str(tmp_path / "hooks"), "EQUAL_FAULT": fault}
    done = call_in(tmp_path, "run", "--quick", "--epochs", "12", "--drop-last", "true", env=hooks)
    assert done.returncode == 1, done.stderr
    lines = json.loads((tmp_path / "results/latest/verdicts.json").read_text())
    outcomes = {line["check"]: line["outcome"] for line in lines}
    assert (outcomes["rerun"], outcomes["inputs"]) == ("pass", "pass")
    failed = {check for check, outcome in outcomes.items() if outcome == "fail"}
    assert checks <= failed
