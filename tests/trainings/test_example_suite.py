"""The example suite of pytest, as a user runs it."""

import shutil
from pathlib import Path

import pytest
from test_pytest_plugin import pytest_in

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of the examples, and what their suite said there, run on two processes.

    It uses the fixture and the function, commands and a function, kills and resumes. With
    `--runxfail` its test that must fail does so.
    """
    folder = tmp_path_factory.mktemp("examples") / "examples"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return folder, pytest_in(folder, "-n2", "--runxfail", "tests").stdout


def test_the_example_suite_passes_but_for_the_test_that_must_fail(
    examples: tuple[Path, str],
) -> None:
    """And nothing is left in the folder."""
    folder, said = examples
    assert "1 failed, 3 passed" in said, said
    left = {path.name for path in folder.iterdir()} - {path.name for path in EXAMPLES.iterdir()}
    assert left <= {".benchmarks"}, "another plugin makes it"


def test_a_test_that_fails_shows_the_sentence_and_the_first_divergence(
    examples: tuple[Path, str],
) -> None:
    """And its own line, the hint, the progress and the report; no line of xorbench's code."""
    _, said = examples
    assert (
        "E       Failed: Not identical: run 2 first differs from run 1 in step 0, in parameter"
    ) in said
    assert "E         component               the initial parameters" in said
    assert "E         hint: set the seed before the model is made" in said
    assert ">       xorbench.check(train_without_a_seed, folder=FOLDER)" in said
    assert "xorbench: run 2: 3 steps" in said
    report = next(line for line in said.splitlines() if "report: " in line)
    assert Path(report.partition("report: ")[2]).is_file()
    assert "pytest_plugin.py" not in said
    assert "api.py" not in said
