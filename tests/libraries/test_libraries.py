"""Quickstarts of public libraries: `check` gives the expected answer, and changes no weights.

`tox -e libraries` installs the libraries and runs these tests. A case is skipped where its library
is not installed.
"""

from pathlib import Path
from typing import Any

import pytest

from libraries import LibraryAnswer, LibraryCase, answer, cases

CASES = cases()


def parameter(case: LibraryCase) -> Any:
    """The case as a parameter of a test."""
    marks = [pytest.mark.xfail(reason=case.pending, strict=False)] if case.pending else []
    return pytest.param(case, id=case.script, marks=marks)


def test_each_script_is_in_the_table_once() -> None:
    """At least 25 libraries are in the table."""
    helpers = {"libraries.py", "test_libraries.py"}
    scripts = {path.name for path in Path(__file__).parent.glob("*.py")} - helpers
    assert sorted(case.script for case in CASES) == sorted(scripts)
    assert len({case.library for case in CASES}) >= 25


def test_a_documented_reason_is_given_for_each_other_answer() -> None:
    """A case that is not identical has a note."""
    assert all(case.note for case in CASES if case.exit != 0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"exit_code": 1}, "exit code 1, not 0"),
        ({"result": {"details": {"coverage": "7 steps, 2 parameters"}}}, "7 steps, not 8"),
        ({"digests": ["a", "b", "b"]}, "weights differ without the recorder"),
        ({"digests": ["", "", ""]}, "weights differ without the recorder"),
    ],
)
def test_a_wrong_answer_is_reported(change: dict[str, Any], expected: str) -> None:
    """A different exit code, coverage or digest of the weights fails the case."""
    right: dict[str, Any] = {
        "case": LibraryCase("torch", "x.py", steps=8, parameters=2),
        "exit_code": 0,
        "result": {"details": {"coverage": "8 steps, 2 parameters, 0 buffers"}},
        "digests": ["a", "a", "a"],
        "seconds": 1.0,
    }
    assert LibraryAnswer(**right).wrong == []
    (message,) = LibraryAnswer(**{**right, **change}).wrong
    assert expected in message


@pytest.mark.parametrize("case", [parameter(case) for case in CASES])
def test_check_gives_the_expected_answer(case: LibraryCase, tmp_path: Path) -> None:
    """Exit code, coverage and weights are as in the table."""
    if case.missing:
        pytest.skip(f"not installed: {', '.join(case.missing)}")
    assert answer(case, tmp_path).wrong == []
