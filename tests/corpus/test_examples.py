"""The commands of examples/README.md succeed, and the examples resume exactly from any step."""

import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from conftest import call_in

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
README: Final = (EXAMPLES / "README.md").read_text()
CASES: Final = {
    "xor.py": ("--epochs", "5"),  # 19 steps per epoch
    "cnn.py": ("--epochs", "4", "--images", "320"),  # 10
    "gpt.py": ("--steps", "24", "--save-every", "4"),
}
FIRST_SAVED: Final = {"xor.py": 19, "cnn.py": 10, "gpt.py": 4}
STEPS: Final = {"xor.py": 95, "cnn.py": 40, "gpt.py": 24}


def command(script: str) -> list[str]:
    """The command of an example."""
    return [sys.executable, script, *CASES[script]]


COMMANDS: Final = re.findall(r"`(xorbench check -- .*?|python .*?)`", README)


def test_the_page_has_commands_for_each_example() -> None:
    """Each is run by the next test; the tutorial's statements are a file of tests."""
    assert len(COMMANDS) == 7
    assert "`pytest lessons.py -rP`" in README
    for script in {*EXAMPLES.glob("*.py")} - {EXAMPLES / "lessons.py"}:
        assert any(script.name in words for words in COMMANDS)


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_of_the_page_succeeds(words: str, tmp_path: Path) -> None:
    """Exit code 0 in a copy of the folder, and a check is reproducible."""
    for script in EXAMPLES.glob("*.py"):
        shutil.copy(script, tmp_path)
    if "xor_plot.py" in words:
        subprocess.run([sys.executable, "xor.py", "--epochs", "1"], cwd=tmp_path, check=True)
    first, *rest = (sys.executable if word == "python" else word for word in words.split())
    if first == "xorbench":
        done = call_in(tmp_path, *rest)
    else:
        done = subprocess.run(
            [first, *rest], cwd=tmp_path, capture_output=True, text=True, check=False
        )
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
