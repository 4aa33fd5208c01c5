"""The examples are the same when they are run again, and resume exactly from any step."""

import random
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

import pytest
from conftest import call_in

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
CASES: Final = {
    "xor.py": ("--epochs", "5"),  # 20 steps an epoch
    "cnn.py": ("--epochs", "4", "--images", "320"),  # 10
    "gpt.py": ("--steps", "24", "--save-every", "4"),
}
FIRST_SAVED: Final = {"xor.py": 20, "cnn.py": 10, "gpt.py": 4}
STEPS: Final = {"xor.py": 100, "cnn.py": 40, "gpt.py": 24}


def command(script: str) -> list[str]:
    """The command of an example."""
    return [sys.executable, script, *CASES[script]]


@pytest.mark.parametrize("script", CASES)
def test_an_example_is_the_same_when_it_is_run_again(script: str, tmp_path: Path) -> None:
    """Exit code 0."""
    shutil.copy(EXAMPLES / script, tmp_path)
    done = call_in(tmp_path, "check", "--", *command(script))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", CASES)
def test_an_example_resumes_exactly(script: str, tmp_path: Path) -> None:
    """Killed at two random steps after its first checkpoint."""
    shutil.copy(EXAMPLES / script, tmp_path)
    steps = range(FIRST_SAVED[script] + 1, STEPS[script])
    kills = ",".join(map(str, sorted(random.Random(script).sample(steps, 2))))
    resume = shlex.join([*command(script), "--resume"])
    words = ("--kill-after", kills, "--resume", resume)
    done = call_in(tmp_path, "check", *words, "--", *command(script))
    assert done.returncode == 0, done.stdout + done.stderr
