"""The workflows and the action of this repository: their `run:` lines run here as GitHub runs them.

A line that installs from a network is left out, with the reason.
"""

import configparser
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
FILES: Final = ("action.yml", ".github/workflows/tests.yml", ".github/workflows/nightly.yml")
LIMIT_S: Final = 300.0
# Steps that are not run here, by the beginning of their line, and why.
LEFT_OUT: Final = {
    "python -m pip install --quiet tox": "installs from a network",
    "python -m pip install --quiet torch": "installs from a network",
    'python -m tox -e "$TOX_ENV"': "installs the dependencies of the env from a network",
    'venv="$RUNNER_TEMP/xorbench"': "installs from a network",
}
TRAINING: Final = """
import torch
torch.manual_seed(SEED)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    loss = model(torch.ones(4, 3)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
SEEDED: Final = TRAINING.replace("SEED", "0")


@dataclass(frozen=True)
class Step:
    """A step that runs a line."""

    file: str
    name: str
    run: str
    env: dict[str, str]

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


def loaded(file: str) -> Any:
    """A file of YAML."""
    return yaml.safe_load((ROOT / file).read_text())


def steps_of(file: str) -> list[Step]:
    """Every step of a workflow or of an action that runs a line."""
    content = loaded(file)
    jobs = content["jobs"].values() if "jobs" in content else [content["runs"]]
    return [
        Step(file, step["name"], step["run"], {**job.get("env", {}), **step.get("env", {})})
        for job in jobs
        for step in job["steps"]
        if "run" in step
    ]


STEPS: Final = [step for file in FILES for step in steps_of(file)]
BY_NAME: Final = {step.name: step for step in STEPS}


@dataclass(frozen=True)
class Workspace:
    """A clone with a training, as GitHub gives it to a job."""

    folder: Path

    @property
    def clone(self) -> Path:
        """The current folder of each step."""
        return self.folder / "clone"

    def run(self, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a step with bash as GitHub does; `variables` replace its inputs."""
        step = BY_NAME[name]
        assert set(variables) == set(step.env), "a step gets what its env names"
        own = {key: text for key, text in os.environ.items() if not key.startswith("PYTEST_")}
        files = {f"GITHUB_{key}": str(self.folder / key) for key in ("OUTPUT", "STEP_SUMMARY")}
        path = os.pathsep.join([str(Path(sys.executable).parent), own["PATH"]])
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step.run],
            cwd=self.clone,
            env={**own, **files, **variables, "PATH": path, "RUNNER_TEMP": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )

    def xorbench(self, mode: str, command: str = "", options: str = "") -> int:
        """Run the step that runs xorbench; its exit code, which is also its output."""
        done = self.run("Run xorbench", MODE=mode, COMMAND=command, OPTIONS=options)
        outputs = (self.folder / "OUTPUT").read_text().splitlines()
        assert outputs[-1] == f"exit-code={done.returncode}", done.stderr
        return done.returncode

    @property
    def summary(self) -> str:
        """The step summary."""
        path = self.folder / "STEP_SUMMARY"
        return path.read_text() if path.exists() else ""

    @property
    def verdicts(self) -> list[str]:
        """The outcome of each test case of the JUnit file."""
        root = ET.parse(self.folder / "xorbench-report" / "xorbench.xml").getroot()
        return [case[0].tag if len(case) else "passed" for case in root.iter("testcase")]


def git(folder: Path, *words: str) -> None:
    """Run git as an author."""
    author = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A repository, its clone, and xorbench where the action installs it."""
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "train.py").write_text(SEEDED)
    git(origin, "init", "--quiet", "--initial-branch=main")
    git(origin, "add", ".")
    git(origin, "commit", "--quiet", "--message=Train")
    git(tmp_path, "clone", "--quiet", str(origin), "clone")
    program = tmp_path / "xorbench" / "bin" / "xorbench"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m xorbench "$@"\n')
    program.chmod(0o755)
    return Workspace(tmp_path)


def test_each_line_is_run_here_or_left_out_with_a_reason() -> None:
    """A new step needs a test."""
    run = {step.name for step in STEPS if not step.run.startswith(tuple(LEFT_OUT))}
    assert run == {"Run the README's test command", "Check out the base", "Run xorbench"}
    for beginning in LEFT_OUT:
        assert any(step.run.startswith(beginning) for step in STEPS), beginning


def test_no_line_holds_an_expression() -> None:
    """Expressions are in `env`, where their value cannot become a command."""
    assert [str(step) for step in STEPS if "${{" in step.run] == []


def test_each_input_is_used() -> None:
    """And each that is used is declared, with a description."""
    action = loaded("action.yml")
    used = re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text())
    assert set(used) == set(action["inputs"])
    assert all(entry["description"] for entry in action["inputs"].values())


def test_the_envs_exist() -> None:
    """The workflows run envs of tox.ini, and together all that are not run on each push."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    sections = [name.removeprefix("testenv:") for name in tox if name.startswith("testenv:")]
    plain = {name for name in sections if "{" not in name} | {"oldest", "newest"}
    nightly = set(loaded(FILES[2])["jobs"]["env"]["strategy"]["matrix"]["env"])
    include = loaded(FILES[1])["jobs"]["pytorch"]["strategy"]["matrix"]["include"]
    assert nightly | {row["env"] for row in include} <= plain
    in_tests = {"tests", "lint", "fast", "types", "bench-smoke", "oldest", "newest"}
    assert plain - in_tests - nightly == {"coverage"}


def test_both_systems_and_both_ends_of_the_versions_are_tested() -> None:
    """Linux and macOS; Python 3.11 and the newest; PyTorch 2.6 and the newest."""
    jobs = loaded(FILES[1])["jobs"]
    suite = jobs["suite"]["strategy"]["matrix"]
    assert suite == {"os": ["ubuntu-latest", "macos-latest"], "python": ["3.11", "3.x"]}
    rows = jobs["pytorch"]["strategy"]["matrix"]["include"]
    for system in suite["os"]:
        assert {row["env"] for row in rows if row["os"] == system} == {"oldest", "newest"}


def test_the_readmes_command_is_run(workspace: Workspace) -> None:
    """And its failure fails the step."""
    page = "<!-- test command -->\n```sh\necho tested > done.txt\n```\n"
    (workspace.clone / "README.md").write_text(page)
    assert workspace.run("Run the README's test command").returncode == 0
    assert (workspace.clone / "done.txt").read_text() == "tested\n"
    (workspace.clone / "README.md").write_text(page.replace("echo tested", "false"))
    assert workspace.run("Run the README's test command").returncode == 1


def test_the_action_checks_a_training(workspace: Workspace) -> None:
    """With a summary, a JUnit file and the report that is uploaded."""
    (workspace.clone / "my train.py").write_text(SEEDED)
    assert workspace.xorbench("check", "python 'my train.py'", "--steps 2") == 0
    assert workspace.verdicts == ["passed"]
    assert "2 steps" in workspace.summary
    assert list(workspace.folder.glob("xorbench-report/checks/*/report.html"))


def test_the_action_fails_for_a_training_that_is_not_reproducible(workspace: Workspace) -> None:
    """With the exit code of xorbench."""
    (workspace.clone / "train.py").write_text(TRAINING.replace("SEED", "torch.seed() % 2**31"))
    assert workspace.xorbench("check", "python train.py") == 1
    assert workspace.verdicts == ["failure"]


@pytest.mark.parametrize(
    ("seed", "code"), [pytest.param("0", 0, marks=pytest.mark.variant), ("1", 1)]
)
def test_the_action_compares_with_the_base(workspace: Workspace, seed: str, code: int) -> None:
    """The commit of the base is fetched, and its training runs in a folder of the copy."""
    (workspace.clone / "train.py").write_text(TRAINING.replace("SEED", seed))
    assert workspace.run("Check out the base", BASE="main").returncode == 0
    options = "--bits-only --processes 2"
    assert workspace.xorbench("against", "python train.py", options) == code


def test_the_action_checks_the_machine(workspace: Workspace) -> None:
    """The canary has no command."""
    assert workspace.xorbench("canary", options="--devices cpu --probes reduction") == 0
    assert "passed" in workspace.verdicts


def test_the_action_refuses_what_it_does_not_know(workspace: Workspace) -> None:
    """Exit code 2 for an unknown mode and for a missing base."""
    assert workspace.xorbench("guess") == 2
    done = workspace.run("Check out the base", BASE="")
    assert (done.returncode, done.stdout[:7]) == (2, "::error")


def test_git_is_here() -> None:
    """The tests above need it."""
    assert shutil.which("git")
