"""Commands that must answer quickly import no large library."""

import subprocess
import sys
from pathlib import Path

import pytest


def loaded(folder: Path, *arguments: str) -> set[str]:
    """The top-level modules loaded when the program exits."""
    script = (
        "import sys, atexit, runpy;"
        "atexit.register(lambda: sys.stderr.write('\\nLOADED ' + ' '.join(sys.modules)));"
        f"sys.argv = ['xorbench', *{list(arguments)!r}];"
        "runpy.run_module('xorbench', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False
    )
    return {name.split(".")[0] for name in done.stderr.rpartition("LOADED ")[2].split()}


HEAVY = {"torch", "numpy", "pandas", "matplotlib", "scipy", "rich", "msgspec"}


@pytest.mark.parametrize("module", ["xorbench", "xorbench.pytest_plugin"])
def test_importing_it_loads_no_heavy_library(module: str) -> None:
    """Neither the package nor its pytest plugin, which every pytest run loads."""
    script = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    names = set(done.stdout.split())
    assert {name.split(".")[0] for name in names} & HEAVY == set()
    assert not [
        name
        for name in names
        if name.startswith(("xorbench.api", "xorbench.programs", "xorbench.xor"))
    ]


def test_checking_from_python_loads_no_torch() -> None:
    """`xorbench.check` is imported on first use; torch only in the processes that train."""
    script = "import xorbench, sys; xorbench.check; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    names = set(done.stdout.split())
    assert "xorbench.api.check" in names
    assert "torch" not in names


def test_a_process_of_a_run_does_not_load_the_recorder() -> None:
    """Only a traced training loads the recorder."""
    script = (
        "from xorbench.process.operations import OPERATIONS, Session; import sys;"
        "from xorbench.xor.matrix.case import Case, to_dict;"
        "from xorbench.xor.matrix.recipe import Recipe;"
        "case, recipe = to_dict(Case()), to_dict(Recipe(train_size=128, test_size=8, epochs=1));"
        "session = Session()\n"
        "for name in ('open', 'open traced'):\n"
        "    answer = OPERATIONS[name](session, case=case, recipe=recipe, faults=[])\n"
        "    OPERATIONS['step'](session, training=answer['training'])\n"
        "    print('xorbench.recorder.listen' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["sweep", "-h"]]
)
def test_help_loads_no_heavy_library(arguments: list[str], tmp_path: Path) -> None:
    """Help needs no torch, NumPy, pandas, matplotlib or SciPy."""
    assert loaded(tmp_path, *arguments) & HEAVY == set()


def test_a_report_without_pictures_loads_no_plotting_library(tmp_path: Path) -> None:
    """`check` writes its page without matplotlib and SciPy, which would take half of its time."""
    (tmp_path / "nothing.py").write_text("pass")
    names = loaded(tmp_path, "check", "--", sys.executable, "nothing.py")
    assert names & {"matplotlib", "scipy", "torch"} == set()
    assert {"xorbench", "pandas"} <= names


def test_listing_and_reporting_never_load_torch(quick_folder: Path) -> None:
    """`list` and `report` need only tables and files."""
    for arguments in (["list"], ["report", "--out", str(quick_folder)]):
        names = loaded(quick_folder, *arguments)
        assert "torch" not in names
        assert "pandas" in names


def test_there_is_no_garbage_collection_at_exit(tmp_path: Path) -> None:
    """It would take a fifth of the time of a report."""
    script = (
        "import atexit, gc, sys; from xorbench.__main__ import program;"
        "atexit.register(lambda: print('frozen', gc.get_freeze_count() > 10_000));"
        "sys.argv = ['xorbench', 'list']; program()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "frozen True"


def test_the_orchestrator_of_a_run_never_loads_torch(tmp_path: Path) -> None:
    """Only its processes load torch."""
    names = loaded(tmp_path, "run", "--quick", "--epochs", "1", "--processes", "1")
    assert (tmp_path / "results" / "latest" / "throughput.csv").exists()
    assert "torch" not in names
