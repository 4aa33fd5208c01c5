"""xorbench in an environment of its own checks a training in another one.

The environment of the training has PyTorch and the standard library. The environment of xorbench
has the core dependencies: no PyTorch, SciPy, matplotlib, Numba or rich.
"""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import once
from environments import PROJECT, ROOT, environment, site_packages

LIMIT_S = 900.0
# It trains from the folder of its environment alone: it fails if it can import a package of the
# environment of xorbench, or NumPy.
UNSEEDED = """
import importlib.util, sys, torch
names = ("xorbench", "click", "msgspec", "numpy")
reachable = [name for name in names if importlib.util.find_spec(name)]
assert not reachable, reachable
assert not [path for path in sys.path if "tool" in path], sys.path
def train():
    SEED
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        loss = model(torch.ones(4, 3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
if __name__ == "__main__":
    train()
"""


@dataclass(frozen=True)
class Isolated:
    """Two environments, and a folder with trainings."""

    tool: Path
    training: Path
    folder: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run xorbench; `python` is the interpreter of the training, the first one on PATH."""
        own = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "VIRTUAL_ENV") and not name.startswith("PYTEST_")
        }
        path = os.pathsep.join([str(self.training.parent), own["PATH"]])
        return subprocess.run(
            [str(self.tool), "-m", "xorbench", *words],
            cwd=self.folder,
            env={**own, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )

    def result(self, *words: str) -> dict[str, Any]:
        """The JSON that a command prints."""
        done = self.run(*words)
        assert done.stdout.startswith("{"), done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result


@pytest.fixture(scope="module")
def isolated(tmp_path_factory: pytest.TempPathFactory) -> Isolated:
    """The two environments."""

    def make(folder: Path) -> None:
        environment(folder / "tool", PROJECT["dependencies"])
        (site_packages(folder / "tool") / "xorbench").symlink_to(ROOT / "xorbench")
        environment(folder / "torch", ["torch"])
        trainings = folder / "trainings"
        trainings.mkdir()
        shutil.copy(ROOT / "examples" / "gpt.py", trainings)
        (trainings / "seeded.py").write_text(UNSEEDED.replace("SEED", "torch.manual_seed(0)"))
        (trainings / "unseeded.py").write_text(UNSEEDED.replace("SEED", "pass"))

    base = once(tmp_path_factory, "isolated", make)
    python = base / "torch" / "bin" / "python"
    return Isolated(base / "tool" / "bin" / "python", python, base / "trainings")


def test_the_environments_have_only_what_they_need(isolated: Isolated) -> None:
    """The tool has no library of an extra, the training neither NumPy nor xorbench."""
    names = ("torch", "scipy", "matplotlib", "numba", "rich", "prometheus_client", "numpy")
    names = (*names, "xorbench")
    script = f"import importlib.util as u; print(*(n for n in {names!r} if u.find_spec(n)))"
    reachable = [
        subprocess.run(
            [python, "-c", script],
            cwd=isolated.folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for python in (isolated.tool, isolated.training)
    ]
    assert [text.split() for text in reachable] == [["numpy", "xorbench"], ["torch"]]


def test_check_compares_the_runs_of_a_training(isolated: Isolated) -> None:
    """Steps, parameters and losses are recorded, from a training that reaches no other package."""
    result = isolated.result("check", "--json", "--", "python", "seeded.py")
    assert (result["exit_code"], result["outcome"]) == (0, "pass")
    assert "3 steps, 2 parameters" in result["details"]["coverage"]


def test_a_difference_is_located(isolated: Isolated) -> None:
    """Also with the elements that differ, for which xorbench uses its own NumPy."""
    result = isolated.result("check", "--json", "--", str(isolated.training), "unseeded.py")
    assert (result["exit_code"], result["step"]) == (1, 0)
    assert "elements" in result["details"]


def test_a_function_is_called_by_the_first_python_on_path(isolated: Isolated) -> None:
    """The interpreter of xorbench has no PyTorch."""
    result = isolated.result("check", "--json", "seeded:train")
    assert (result["exit_code"], result["outcome"]) == (0, "pass")


def test_a_killed_training_resumes_exactly(isolated: Isolated) -> None:
    """The example is killed after four steps and resumed from its checkpoint of step 3."""
    train = ("python", "gpt.py", "--steps", "6", "--save-every", "3")
    resume = " ".join([*train, "--resume"])
    result = isolated.result(
        "check", "--json", "--kill-after", "4", "--resume", resume, "--", *train
    )
    assert (result["exit_code"], result["outcome"]) == (0, "pass")


def test_explain_finds_the_switch(isolated: Isolated) -> None:
    """The switches act inside the training; without NumPy there, its seed is skipped."""
    result = isolated.result(
        *("explain", "--json", "--no-cost", "--processes", "4", "--", "python", "unseeded.py")
    )
    assert result["fix"] == ["torch-seed"], result


def test_against_compares_bits(isolated: Isolated) -> None:
    """The comparison of two commands needs no SciPy if the speed is not judged."""
    words = ("--bits-only", "--processes", "2", "--json", "--against", "python seeded.py")
    result = isolated.result("check", *words, "--", "python", "seeded.py")
    assert result["exit_code"] == 0, result


def test_two_traces_are_compared(isolated: Isolated) -> None:
    """`trace` records the training where it is, and `diff` reads the files."""
    for name in ("a", "b"):
        done = isolated.run("trace", "-o", f"{name}.jsonl", "--", "python", "seeded.py")
        assert done.returncode == 0, done.stderr
    done = isolated.run("diff", "a.jsonl", "b.jsonl")
    assert done.returncode == 0, done.stderr


def test_env_describes_the_interpreter_that_trains(isolated: Isolated) -> None:
    """Without `--python` there is no PyTorch to describe, which a note states."""
    done = isolated.run("env")
    assert json.loads(done.stdout)["process"] is None
    assert "--python" in done.stderr
    process = isolated.result("env", "--python", str(isolated.training))["process"]
    assert process["torch_version"]
    assert process["numpy_version"] is None


def test_a_python_without_pytorch_is_named(isolated: Isolated) -> None:
    """A training in the environment of xorbench fails, and the hint names the fix."""
    done = isolated.run("check", "--", str(isolated.tool), "gpt.py")
    assert done.returncode == 1
    assert "hint: give the interpreter of the training" in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run", "--quick"], 'run needs SciPy: pip install "xorbench[run]"'),
        (["report"], 'report needs SciPy: pip install "xorbench[run]"'),
        (
            ["trace", "-o", "x", "cpu-loader-b128-pin0-drop1-w0-s0"],
            'process p0 needs PyTorch: pip install "xorbench[run]"',
        ),
        (["canary"], 'canary needs PyTorch: pip install "xorbench[all]"'),
        (["sweep"], 'sweep needs SciPy: pip install "xorbench[all]"'),
        (
            ["check", "--against", "python seeded.py", "--", "python", "seeded.py"],
            '--against without --bits-only needs SciPy: pip install "xorbench[speed]"',
        ),
        (
            ["explain", "--", "python", "seeded.py"],
            'explain without --no-cost needs SciPy: pip install "xorbench[speed]"',
        ),
    ],
)
def test_a_command_names_its_extra(isolated: Isolated, words: list[str], line: str) -> None:
    """One line and exit code 2, before any work."""
    done = isolated.run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"xorbench: {line}\n")


def test_list_needs_no_extra(isolated: Isolated) -> None:
    """Its tables are made from registries."""
    assert isolated.run("list").returncode == 0
