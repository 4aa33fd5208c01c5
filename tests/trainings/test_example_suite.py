"""The example suite of pytest, as a user runs it."""

import shutil
from pathlib import Path

import pytest
from test_pytest_plugin import pytest_in

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of the examples, and the output of their suite, run in two processes.

    The suite uses the fixture and the function, commands and a function, kills and resumes. With
    `--runxfail` its expected failure is reported.
    """
    folder = tmp_path_factory.mktemp("examples") / "examples"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return folder, pytest_in(folder, "-n2", "--runxfail", "tests").stdout


def test_the_example_suite_passes_except_for_the_expected_failure(
    examples: tuple[Path, str],
) -> None:
    """No file remains in the folder."""
    folder, output = examples
    assert "1 failed, 3 passed" in output, output
    left = {path.name for path in folder.iterdir()} - {path.name for path in EXAMPLES.iterdir()}
    assert left <= {".benchmarks"}, "created by another plugin"


def test_a_failed_test_shows_the_sentence_and_the_first_difference(
    examples: tuple[Path, str],
) -> None:
    """It also shows its own line, the hint, progress and report, but no code of xorbench."""
    _, output = examples
    assert (
        "E       Failed: Not identical: run 2 first differs from run 1 in step 0, in parameter"
    ) in output
    assert "E         component               the initial parameters" in output
    assert "E         hint: set the seed before the model is created" in output
    assert ">       xorbench.check(train_without_a_seed, folder=FOLDER)" in output
    assert "xorbench: run 2: 3 steps" in output
    report = next(line for line in output.splitlines() if "report: " in line)
    assert Path(report.partition("report: ")[2]).is_file()
    assert "pytest_plugin.py" not in output
    assert "api.py" not in output
