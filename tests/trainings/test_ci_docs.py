"""docs/ci.md is true: every `run:` line of its workflows runs, and fails where it should."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "ci.md").read_text()
LIMIT_S: Final = 300.0
# What is not run here, and why.
LEFT_OUT: Final = {
    "python -m pip install -r requirements.txt": "installs what a training of yours needs",
    "python -m pip install git+https://HOST/OWNER/xorbench@COMMIT": "its address is a placeholder",
}
# Shorter than in the page, by what the workflow itself takes from its `env`.
SHORTER: Final = {
    "TRAINING": "python train.py",
    "BASE": "python base/train.py",
    "STEPS": "6",
    "PROCESSES": "2",
    "THRESHOLD": "60%",  # so few steps of such a size are noisy
    "XORBENCH": str(Path(sys.executable).parent),
    "BURN_IN": "1",
    "OPTIONS": "--devices cpu --probes reduction --memory 1MiB",
    "METRICS": "xorbench.prom",
}
TRAINING: Final = """
import time, torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(9):
    time.sleep(0.02)
    loss = model(torch.ones(4, 3)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
# The second run has a step more, so that none is needed to look closer.
LONGER: Final = TRAINING.replace("range(9)", "range(2 + int(os.environ['XORBENCH_RUN']))").replace(
    "import time", "import os, time"
)
SLOWER: Final = TRAINING.replace("0.02", "0.1")
TEST: Final = """
def test_training(xorbench):
    xorbench.check("python train.py", steps=2)
"""
# In place of the program: it notes its arguments, and ends as it is told to.
SIMULATED: Final = """#!/bin/sh
echo "$*" >> calls.txt
code=$(sed -n "$(wc -l < calls.txt)p" codes.txt)
exit "$code"
"""


@dataclass(frozen=True)
class Step:
    """A step that runs something, and the variables that it sees."""

    job: str
    name: str
    run: str
    env: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.job}: {self.name}"


def documents(page: str) -> list[Any]:
    """The YAML blocks of a page."""
    return [
        yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    ]


def steps_of(page: str) -> list[Step]:
    """Every step of the page that runs something, in order."""
    found = []
    for document in documents(page):
        jobs = document.get("jobs", {"block": document})
        for job, of in jobs.items():
            for step in of["steps"]:
                if "run" in step:
                    env = {**document.get("env", {}), **of.get("env", {}), **step.get("env", {})}
                    name = step.get("name", step["run"])
                    found.append(Step(job, name, step["run"], env))
    return found


STEPS: Final = steps_of(PAGE)
RUN: Final = [step for step in STEPS if step.run not in LEFT_OUT]
BY_JOB: Final = {step.job: step for step in RUN}  # the last of each job does its work


@dataclass(frozen=True)
class Ran:
    """How a step ended, and where."""

    code: int
    said: str
    folder: Path

    @property
    def summary(self) -> str:
        """What the page of the run would show."""
        path = self.folder.parent / "summary.md"
        return path.read_text() if path.exists() else ""

    def cases(self, name: str) -> list[str]:
        """What each test case of a JUnit file came to."""
        root = ET.parse(self.folder / name).getroot()
        return [case[0].tag if len(case) else "passed" for case in root.iter("testcase")]


def ran(step: Step, folder: Path, first_in_path: Path | None = None, **files: str) -> Ran:
    """Run a step as GitHub does, in a workspace with a training and that of the base."""
    place = folder / "workspace"
    (place / "base").mkdir(parents=True, exist_ok=True)
    (place / "tests").mkdir()
    (place / "train.py").write_text(files.get("train", TRAINING))
    (place / "base" / "train.py").write_text(files.get("base", TRAINING))
    (place / "tests" / "test_training.py").write_text(TEST)
    assert set(step.env) <= set(SHORTER)
    own = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    path = [str(Path(sys.executable).parent), own["PATH"]]
    if first_in_path is not None:
        path.insert(0, str(first_in_path))
    env = {
        **own,
        **{name: SHORTER[name] for name in step.env},
        **{name: files[name] for name in files if name in step.env},
        "PATH": os.pathsep.join(path),
        "GITHUB_PATH": str(folder / "path.txt"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    done = subprocess.run(
        ["bash", "-e", "-c", step.run],
        cwd=place,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    return Ran(done.returncode, done.stdout + done.stderr, place)


def test_every_line_is_run_here_or_left_out_with_a_reason() -> None:
    """And what is left out stands in the page."""
    assert {step.run for step in STEPS} >= set(LEFT_OUT)
    assert [str(step) for step in RUN] == [
        "training: Is it reproducible?",
        "speed: Is a step as fast as that of the base?",
        'canary: echo "$XORBENCH" >> "$GITHUB_PATH"',
        "canary: Burn in, and check each probe",
        "block: Test the training",
    ]


def test_what_is_shortened_is_what_the_workflow_takes_from_its_environment() -> None:
    """Each value that is replaced is used, and no line has a placeholder that GitHub fills in."""
    used = " ".join(step.run for step in RUN)
    assert [name for name in SHORTER if f"${name}" not in used] == []
    assert "${{" not in used
    assert STEPS[0].env["BASE"] == "python base/train.py --epochs 1"


def test_the_burn_in_and_its_metrics_are_as_long_as_the_page_says() -> None:
    """Ten minutes, into the folder of node_exporter's textfile collector."""
    env = BY_JOB["canary"].env
    assert env["BURN_IN"] == "600"
    assert env["METRICS"].endswith(".prom")


def test_a_sound_training_passes_and_is_in_the_summary(tmp_path: Path) -> None:
    """The check of a pull request, with its JUnit file and the report that is uploaded."""
    done = ran(BY_JOB["training"], tmp_path)
    assert done.code == 0, done.said
    assert "Bitwise identical in 2 runs: 6 steps" in done.summary
    assert done.cases("check.xml") == ["passed"]
    assert list(done.folder.glob("results/checks/*/report.html"))


def test_a_training_that_is_not_the_same_fails(tmp_path: Path) -> None:
    """With the exit code 1, a failure in JUnit, and the difference in the summary."""
    done = ran(BY_JOB["training"], tmp_path, train=LONGER)
    assert done.code == 1, done.said
    assert done.cases("check.xml") == ["failure"]
    assert "Not identical: run 1 has 3 steps, run 2 has 4." in done.summary


def test_a_training_as_fast_as_the_base_passes_the_gate(tmp_path: Path) -> None:
    """Or it is told that the runner is too noisy, and passes."""
    done = ran(BY_JOB["speed"], tmp_path)
    assert done.code == 0, done.said
    assert done.cases("speed.xml") in (["passed"], ["error"])
    assert ("::warning" in done.said) == (done.cases("speed.xml") == ["error"])


def test_a_slower_training_fails_the_gate(tmp_path: Path) -> None:
    """A step of it takes ten times as long."""
    done = ran(BY_JOB["speed"], tmp_path, train=SLOWER)
    assert done.code == 1, done.said
    assert done.cases("speed.xml") == ["failure"]


def test_the_canary_passes_and_writes_its_metrics(tmp_path: Path) -> None:
    """On the CPU, with one probe, and one cycle of burning in."""
    done = ran(BY_JOB["canary"], tmp_path)
    assert done.code == 0, done.said
    assert "xorbench_canary_exit_code 0.0" in (done.folder / "xorbench.prom").read_text()
    assert set(done.cases("canary.xml")) - {"skipped"} == {"passed"}


def test_the_alerts_that_the_page_proposes_have_their_metrics(tmp_path: Path) -> None:
    """The names in the page are those that are written."""
    from xorbench.machine.canary import metrics
    from xorbench.machine.canary.verdicts import CanaryOutcome

    metrics.write(tmp_path / "x.prom", CanaryOutcome([], {}, 0.0, 0, {}))
    written = set(re.findall(r"^(xorbench_\w+) ", (tmp_path / "x.prom").read_text(), re.M))
    named = set(re.findall(r"xorbench_canary_\w+", PAGE))
    assert named
    assert named <= written


def test_the_path_of_the_own_machine_is_passed_on(tmp_path: Path) -> None:
    """To the steps after it."""
    (step,) = (step for step in RUN if "GITHUB_PATH" in step.run)
    assert ran(step, tmp_path).code == 0
    assert (tmp_path / "path.txt").read_text().strip() == SHORTER["XORBENCH"]


def test_a_suite_with_the_fixture_passes(tmp_path: Path) -> None:
    """JUnit is pytest's, and the report is where the job uploads it from."""
    done = ran(BY_JOB["block"], tmp_path)
    assert done.code == 0, done.said
    assert done.cases("tests.xml") == ["passed"]
    assert list(done.folder.glob("results/checks/*/report.html"))


def simulated(job: str, folder: Path, *codes: int, **files: str) -> tuple[Ran, list[str]]:
    """A step with a program that ends with these codes, and the arguments of each call."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "xorbench").write_text(SIMULATED)
    (programs / "xorbench").chmod(0o755)
    place = folder / "workspace"
    place.mkdir()
    (place / "codes.txt").write_text("".join(f"{code}\n" for code in codes))
    done = ran(BY_JOB[job], folder, programs, **files)
    return done, (place / "calls.txt").read_text().splitlines()


@pytest.mark.parametrize("job", ["training", "canary"])
@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_checks_of_bits_fail_on_every_code_but_0(job: str, code: int, tmp_path: Path) -> None:
    """On 3 as well: nothing was compared."""
    done, calls = simulated(job, tmp_path, code)
    assert done.code == code
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("codes", "ends", "warned"),
    [((0,), 0, 0), ((1,), 1, 0), ((2,), 2, 0), ((3, 0), 0, 0), ((3, 1), 1, 0), ((3, 3), 0, 1)],
    ids=str,
)
def test_the_gate_tries_again_on_3_and_then_warns(
    codes: tuple[int, ...], ends: int, warned: int, tmp_path: Path
) -> None:
    """With the numbers of processes of the page; every other code is the step's own."""
    processes = BY_JOB["speed"].env["PROCESSES"]
    done, calls = simulated("speed", tmp_path, *codes, PROCESSES=processes)
    assert done.code == ends
    assert done.said.count("::warning") == warned
    wanted = processes.split()[: len(codes)]
    assert [call.partition("--processes ")[2].split()[0] for call in calls] == wanted


def test_a_line_that_no_test_runs_is_seen() -> None:
    """The reading of the page can fail: another step is another name in the list."""
    more = PAGE.replace("steps:\n  - name: Test", "steps:\n  - run: unknown\n  - name: Test")
    assert len(steps_of(more)) == len(STEPS) + 1
