"""The trainings of `bench/releases.py`, under the installed PyTorch."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from releases import QUESTIONS, Compared, Installed, Release


@pytest.fixture(scope="module")
def tested() -> Installed:
    """This environment, as if it were that of a release."""
    return Installed(Release("this"), Path(sys.executable))


def test_a_training_that_fails_has_no_digest(tested: Installed) -> None:
    """The trainings after it have one."""
    digests = tested.digests(["xor", "unknown", "lstm+bfloat16"])
    assert digests["unknown"] == ""
    assert len(digests["xor"]) == len(digests["lstm+bfloat16"]) == 64


@pytest.mark.variant
def test_a_release_equals_itself_also_when_it_resumes(tested: Installed, tmp_path: Path) -> None:
    """Several trainings are one command of the check."""
    cases = ["xor", "vae"]
    assert all(tested.digests(cases, "--save", str(tmp_path)).values())
    both = Compared(tested, tested)
    answer = both.answer(cases, QUESTIONS["bits"], ("--resume", str(tmp_path)))
    assert answer["outcome"] == "pass", answer
