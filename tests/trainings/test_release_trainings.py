"""The trainings of `bench/releases.py`, under the installed PyTorch."""

import sys
import venv
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from releases import BITS, FAILED, Compared, Installed, Release


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment with the installed PyTorch, as if it were that of a release."""
    folder = tmp_path_factory.mktemp("environments")
    venv.create(folder / "this")
    (folder / "this" / "complete").touch()
    return Installed(Release("this"), folder)


def test_a_training_that_fails_has_its_error(tested: Installed) -> None:
    """The trainings after it have a digest."""
    digests = tested.digests(["xor", "unknown", "lstm+bfloat16"])
    assert digests["unknown"] == f"{FAILED}KeyError: 'unknown'"
    assert len(digests["xor"]) == len(digests["lstm+bfloat16"]) == 64


def test_the_output_of_each_script_is_stored(tested: Installed) -> None:
    """A script that fails has the name of its error."""
    programs = {"a": "print(1 + 1)", "b": "import unknown", "c": "print(3)"}
    assert list(tested.outputs(programs, ["a", "b"])) == [{"a": "2", "b": "ModuleNotFoundError"}]


@pytest.mark.variant
def test_a_release_equals_itself_also_when_it_resumes(tested: Installed) -> None:
    """Several trainings are one command of the check."""
    cases = ["xor", "vae"]
    both = Compared(tested, tested)
    with both.start("checkpoints", cases) as resume:
        answer = both.answer(cases, BITS, resume)
    assert answer["outcome"] == "pass", answer
