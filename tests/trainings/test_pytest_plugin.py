"""The fixture `xorbench` of the pytest plugin, in real suites that a real pytest runs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from conftest import once

LIMIT_S = 300.0
TRAINING = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    loss = model(torch.ones(4, 3)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
SUITE = """
def test_same(xorbench):
    result = xorbench.check("python train.py")
    assert result.sentence == "bitwise identical in 2 runs: 3 steps"

def test_inconclusive(xorbench):
    xorbench.check(["python", "-c", "print(1)"])

def test_allowed(xorbench):
    result = xorbench.check(["python", "-c", "print(1)"], allow_inconclusive=True)
    assert result.exit_code == 3

def test_failed(xorbench):
    xorbench.check(["python", "-c", "raise SystemExit(5)"], allow_inconclusive=True)

def test_bad(xorbench):
    xorbench.check("python train.py", kill_after=[5, 12])

def test_elsewhere(xorbench, tmp_path):
    xorbench.check("python train.py", folder=tmp_path)
"""


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )


Failures = dict[str, str]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite that has run on two processes, started in a folder below its rootdir."""
    return once(tmp_path_factory, "suite", run_suite) / "suite"


def run_suite(made: Path) -> None:
    """The suite below a folder, run there."""
    folder = made / "suite"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "train.py").write_text(TRAINING)
    (folder / "tests").mkdir()
    (folder / "tests" / "test_suite.py").write_text(SUITE)
    done = pytest_in(folder / "tests", "-n2", "--junitxml=junit.xml", "--xorbench-out=kept")
    (folder / "output.txt").write_text(done.stdout + done.stderr)


@pytest.fixture(scope="module")
def failures(suite: Path) -> Failures:
    """The message of each failed test; empty for passed tests."""
    cases = ET.parse(suite / "tests" / "junit.xml").getroot().iter("testcase")
    return {case.attrib["name"]: case.findtext("failure") or "" for case in cases}


def test_a_command_runs_in_the_rootdir_wherever_pytest_was_started(failures: Failures) -> None:
    """The script is in the rootdir; pytest was started in a subfolder."""
    assert failures["test_same"] == ""


def test_an_inconclusive_answer_fails_with_a_hint(failures: Failures) -> None:
    """A check that compared nothing fails, unless the test allows it."""
    assert "no process imported PyTorch" in failures["test_inconclusive"]
    assert "allow_inconclusive=True" in failures["test_inconclusive"]
    assert failures["test_allowed"] == ""


def test_a_failure_is_never_allowed(failures: Failures) -> None:
    """The argument allows only inconclusive answers."""
    assert "the command failed in run 1: exit code 5" in failures["test_failed"].lower()


def test_bad_input_is_an_error_of_one_line_and_a_hint(failures: Failures) -> None:
    """It shows the line of the test, and no line of the plugin."""
    output = failures["test_bad"]
    assert "E       xorbench.errors.BadOption: kill_after: needs resume" in output
    assert "E       hint: check('python train.py', resume=" in output
    assert '>       xorbench.check("python train.py", kill_after=[5, 12])' in output
    assert "pytest_plugin.py" not in output
    assert "api.py" not in output


def test_another_folder_can_be_given(failures: Failures) -> None:
    """The other folder has no script."""
    assert "can't open file" in failures["test_elsewhere"]


def test_reports_are_kept_in_the_given_folder(suite: Path) -> None:
    """It is relative to the folder in which pytest was started; the rootdir is unchanged."""
    assert len(list((suite / "tests" / "kept" / "checks").glob("*/report.html"))) == 5
    assert {path.name for path in suite.iterdir()} == {
        *("pytest.ini", "train.py", "tests", "output.txt"),
    }


def test_without_a_configuration_file_it_is_the_current_folder(tmp_path: Path) -> None:
    """This also holds for a test file in a subfolder."""
    script = "import os; os.path.exists('here.txt') or exit('not in the copy')"
    (tmp_path / "tests").mkdir()
    (tmp_path / "here.txt").touch()
    (tmp_path / "tests" / "test_it.py").write_text(
        f"def test_it(xorbench):\n"
        f"    xorbench.check(['python', '-c', {script!r}], allow_inconclusive=True)\n"
    )
    output = pytest_in(tmp_path, "tests/test_it.py").stdout
    assert "1 passed" in output, output


def test_a_fixture_of_the_same_name_in_a_conftest_wins(
    xorbench: Callable[..., object], pytestconfig: pytest.Config
) -> None:
    """This suite has such a fixture, and the plugin is loaded."""
    assert pytestconfig.pluginmanager.has_plugin("xorbench")
    assert not hasattr(xorbench, "check")
    assert callable(xorbench)


def test_the_fixture_is_listed_with_its_description(tmp_path: Path) -> None:
    """`pytest --fixtures` has its first line."""
    output = pytest_in(tmp_path, "--fixtures", "-q").stdout
    assert "xorbench -- " in output
    assert 'Check trainings: `xorbench.check("python train.py")`' in output
