"""docs/extending.md is true: the example package installs, and what it adds works."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from conftest import once

from xorbench import registry
from xorbench.errors import BadFile
from xorbench.registry import Registry
from xorbench.xor.matrix.engines import Engine

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "extension"
PAGE = (ROOT / "docs" / "extending.md").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the example package."""

    def make(folder: Path) -> None:
        command = ["pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
        place = str(folder / "place")
        subprocess.run(
            [sys.executable, "-m", *command, place, str(EXAMPLE)], check=True, timeout=300
        )

    return once(tmp_path_factory, "installed", make) / "place"


def with_package(installed: Path, folder: Path, *arguments: str) -> Any:
    """Run the program where the package is installed."""
    return subprocess.run(
        [sys.executable, "-m", "xorbench", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def results(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of both engines, the fault injected in one process of the loader's case."""

    def make(folder: Path) -> None:
        done = with_package(
            installed, folder, "run", "--quick", "--epochs", "2", "--drop-last", "true",
            "--engines", "loader,quiet", "--inject", "no-bias:cases=*-loader-*,process=1",
        )  # fmt: skip
        assert done.returncode == 1, done.stderr

    return (once(tmp_path_factory, "extended", make) / "results" / "latest").resolve()


def verdicts(results: Path, check: str) -> list[dict[str, str]]:
    """What a check said."""
    found = json.loads((results / "verdicts.json").read_text())
    return [verdict for verdict in found if verdict["check"] == check]


def test_the_page_shows_the_package_as_it_is() -> None:
    """Every block of the page stands in a file of the example."""
    files = [path.read_text() for path in EXAMPLE.rglob("*") if path.suffix in {".py", ".toml"}]
    blocks = re.findall(r"^```(?:python|toml)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 6
    assert all(any(block in text for text in files) for block in blocks)


def test_a_check_judges_every_case(results: Path) -> None:
    """Both cases, and its failure would have the hint of its row."""
    assert [v["outcome"] for v in verdicts(results, "falling")] == ["pass", "pass"]


def test_an_engine_trains_to_the_loaders_bits(results: Path) -> None:
    """It is in the matrix, and compared with the loader."""
    found = [v for v in verdicts(results, "invariance") if v["subject"].startswith("engine")]
    assert [v["outcome"] for v in found] == ["pass"]


def test_a_fault_is_caught_by_the_check_that_it_names(results: Path) -> None:
    """Where it was injected the training starts from other weights."""
    assert [v["outcome"] for v in verdicts(results, "inputs")] == ["fail"]


def test_a_probe_is_run_by_the_canary(installed: Path, tmp_path: Path) -> None:
    """By its name."""
    done = with_package(installed, tmp_path, "canary", "--devices", "cpu", "--probes", "halving")
    assert done.returncode == 0, done.stderr
    assert "4,096 results, all correct" in done.stdout


def test_what_a_package_adds_is_listed(installed: Path, tmp_path: Path) -> None:
    """With its statement."""
    done = with_package(installed, tmp_path, "list")
    assert "the final loss is below the first loss" in done.stdout
    assert done.stdout.count("xorbench-extension 1.0") == 3


def entry(value: str, name: str = "quiet") -> EntryPoint:
    """An entry point of an engine."""
    return EntryPoint(name, value, "xorbench.engines")


@pytest.mark.parametrize(
    ("point", "why"),
    [
        (entry("nowhere.at_all:QUIET"), "ModuleNotFoundError: No module named 'nowhere'"),
        (entry("json:loads"), "json:loads is not of type Engine"),
        (entry("xorbench.errors:PASSED", "loader"), "the name exists already"),
        (entry("test_extending:OTHER"), "test_extending:OTHER is named 'other'"),
    ],
)
def test_a_package_that_cannot_be_used_is_named(
    point: EntryPoint, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, of exit code 2."""
    monkeypatch.setattr(registry, "entry_points", lambda **_: [point])
    with pytest.raises(BadFile, match=re.escape(why)) as raised:
        list(Registry("engines", Engine, [Engine("loader", "the loader")]))
    assert f"entry point {point.name!r} of xorbench.engines in" in raised.value.message
    assert raised.value.exit_code == 2


OTHER = Engine("other", "an engine under another name")
