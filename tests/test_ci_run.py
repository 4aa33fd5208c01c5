"""`.ci/run` and the envs of tox."""

import configparser
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOX = "python -m tox -e"
PYTHON = """#!/bin/sh
echo "with the options $COVERAGE_OPTIONS"
echo "===== $4 passed in 72.35s (0:01:12) ====="
[ "$4" != "{failing}" ] || exit 5
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with `.ci/run`, a README whose test command runs env 1, and a script as Python."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    text = f"<!-- test command -->\n```sh\n.venv/bin/{TOX} 1\n```\n"
    (tmp_path / "README.md").write_text(text)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    return tmp_path


def run_ci(clone: Path, failing: str) -> subprocess.CompletedProcess[str]:
    """Run `.ci/run` where Chromium is installed and one env fails."""
    scripts = {".venv/bin/python": PYTHON.format(failing=failing), "chromium": "#!/bin/sh\n"}
    for name, text in scripts.items():
        (clone / name).write_text(text)
        (clone / name).chmod(0o755)
    path = f"{clone}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [clone / ".ci" / "run"],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("failing", "envs", "code"),
    [
        ("none", ["1", "trainings", "corpus"], 0),
        ("trainings", ["1", "trainings"], 5),
        ("1", ["1"], 5),
    ],
)
def test_ci_stops_at_the_first_failure_and_closes_with_the_lines_of_pytest(
    clone: Path, failing: str, envs: list[str], code: int
) -> None:
    """Each command is printed before it runs, and the exit code is the failing command's."""
    done = run_ci(clone, failing)
    lines = done.stdout.splitlines()
    assert done.returncode == code, done.stderr
    assert [line for line in lines if line[0] == "+"] == [f"+ .venv/bin/{TOX} {e}" for e in envs]
    assert lines[-len(envs) :] == [f"===== {e} passed in 72.35s (0:01:12) =====" for e in envs]


def test_ci_counts_the_coverage_of_the_suite_and_of_trainings_together(clone: Path) -> None:
    """The first pytest counts, the second adds to it and is judged, the third does not count."""
    lines = run_ci(clone, "none").stdout.splitlines()
    assert [line for line in lines if line.startswith("with the options")] == [
        "with the options --cov --cov-report= --cov-fail-under=0",
        "with the options --cov --cov-append --cov-report=term",
        "with the options ",
    ]


def test_oldest_installs_the_lower_bound_of_the_package() -> None:
    """`tox -e oldest` has the release that the extra `run` begins with, and no later one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["run"]
    (bound,) = (text for text in extra if text.startswith("torch"))
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    (envs,) = (name for name in tox.sections() if name.endswith("{oldest,newest}"))
    (installed,) = re.findall(r"oldest: (torch.*)", tox[envs]["deps"])
    major, minor = bound.removeprefix("torch>=").split(".")
    assert installed == f"{bound},<{major}.{int(minor) + 1}"
