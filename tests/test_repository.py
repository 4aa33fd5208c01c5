"""The files that a repository has for others: issue templates, security, the release checklist."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from xorbench import __version__

ROOT = Path(__file__).parents[1]
PYTHON = '#!/bin/sh\necho "$*" >> calls.txt\n[ "$2" != "$FAILING" ]\n'


@pytest.mark.parametrize("name", ["bug", "wrong-result"])
def test_an_issue_asks_for_the_environment(name: str) -> None:
    """And for the command, in fields that are required."""
    template = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    required = {
        field["id"]: field["attributes"]["label"]
        for field in template["body"]
        if field.get("validations", {}).get("required")
    }
    assert "xorbench env" in required["env"]
    assert "command" in required


def test_the_pages_of_the_repository_are_short() -> None:
    """They are read before an install, or in a hurry."""
    for page, words in (("docs/stability.md", 600), ("SECURITY.md", 500)):
        assert len((ROOT / page).read_text().split()) <= words, page


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A committed repository with the checklist, and scripts in place of Python and `.ci/run`."""
    for name in (".ci/release", "xorbench/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(f"# Changes\n\n## {__version__}\n")
    for name in (".ci/run", "python"):
        (tmp_path / name).write_text(PYTHON)
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".gitignore").write_text("calls.txt\n")
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=Start"]):
        author = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
        subprocess.run(["git", *author, *words], cwd=tmp_path, check=True)
    return tmp_path


def release(clone: Path, failing: str = "") -> subprocess.CompletedProcess[str]:
    """Run the checklist; the step whose module is `failing` fails."""
    env = {**os.environ, "PYTHON": "./python", "FAILING": failing or "none"}
    return subprocess.run(
        [".ci/release"], cwd=clone, env=env, capture_output=True, text=True, check=False
    )


def test_a_release_executes_every_step_up_to_the_upload(clone: Path) -> None:
    """The last lines are the commands that publish; no upload is executed."""
    done = release(clone)
    assert done.returncode == 0, done.stdout + done.stderr
    calls = (clone / "calls.txt").read_text()
    for words in ("docs/make_reference.py", "tests/stable_interface.py", "tox", "build", "twine"):
        assert words in calls
    assert "upload" not in calls
    assert done.stdout.splitlines()[-1] == "./python -m twine upload dist/*"


def test_a_release_stops_at_the_first_step_that_fails(clone: Path) -> None:
    """The step is named."""
    done = release(clone, failing="tox")
    assert done.returncode == 1
    assert "tox -e oldest" in done.stderr
    assert "build" not in (clone / "calls.txt").read_text().split("tox")[-1]


@pytest.mark.parametrize("fault", ["uncommitted", "no entry", "a tag"])
def test_a_release_that_is_not_prepared_is_refused(clone: Path, fault: str) -> None:
    """Before any test runs."""
    if fault == "uncommitted":
        (clone / "new.py").touch()
    elif fault == "no entry":
        log = clone / "CHANGELOG.md"
        log.write_text("# Changes\n")
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qam", "x"],
            cwd=clone,
            check=True,
        )
    else:
        subprocess.run(["git", "tag", f"v{__version__}"], cwd=clone, check=True)
    done = release(clone)
    assert done.returncode == 1
    assert not (clone / "calls.txt").exists()


def test_the_checklist_names_what_the_repository_has() -> None:
    """Each script and env of its steps exists."""
    listed = subprocess.run(
        [ROOT / ".ci" / "release", "--list"], capture_output=True, text=True, check=True
    ).stdout
    for script in re.findall(r"(?:docs|tests)/\w+\.py|\.ci/run", listed):
        assert (ROOT / script).is_file(), script
    for env in re.findall(r"tox -e (\S+)", listed)[0].split(","):
        assert env in (ROOT / "tox.ini").read_text(), env
