"""The shim: the interpreter that is next on PATH runs, and PYTHONPATH leads to the recorder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xorbench.programs.python_shim import NAMES, with_shim

REPORT = "import os, sys; print(sys.executable, os.environ['PYTHONPATH'], sys.argv[1:])"


@pytest.fixture
def interpreters(tmp_path: Path) -> Path:
    """A folder with a link to this interpreter under each name, and with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name in NAMES:
        (folder / name).symlink_to(sys.executable)
    return folder


def run(path: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command with this PATH, and capture what it prints."""
    return subprocess.run(
        words, env={"PATH": path, **variables}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_next_interpreter_runs_with_the_site_in_front(
    tmp_path: Path, interpreters: Path, name: str
) -> None:
    """Its `sys.executable` is its own, and its arguments are as they were."""
    path = with_shim(f"{interpreters}:/usr/bin:/bin", tmp_path / "it's", Path("/the site"))
    done = run(path, "sh", "-c", f'PYTHONPATH=src {name} -c "$0" "a b" ""', REPORT)
    assert done.stdout == f"{interpreters / name} /the site:src ['a b', '']\n"


def test_a_site_that_is_there_is_not_added_again(tmp_path: Path, interpreters: Path) -> None:
    """PYTHONPATH stays as it is."""
    path = with_shim(str(interpreters), tmp_path / "shim", Path("/site"))
    done = run(f"{path}:/usr/bin:/bin", "python", "-c", REPORT, PYTHONPATH="a:/site")
    assert done.stdout == f"{interpreters / 'python'} a:/site []\n"


def test_a_name_that_is_not_on_path_gets_no_shim(tmp_path: Path, interpreters: Path) -> None:
    """A program that looks for `python3` finds none, as without the shim."""
    (interpreters / "python3").unlink()
    with_shim(str(interpreters), tmp_path / "shim", Path("/site"))
    assert [path.name for path in (tmp_path / "shim").iterdir()] == ["python"]
    assert with_shim(str(tmp_path), tmp_path / "none", Path("/site")) == str(tmp_path)


def test_without_an_interpreter_the_shim_ends_as_a_shell_does(tmp_path: Path) -> None:
    """The program has taken the folder of the interpreter off PATH in the meantime."""
    (tmp_path / "python").symlink_to(sys.executable)
    with_shim(str(tmp_path), tmp_path / "shim", Path("/site"))
    done = run(f"{tmp_path / 'shim'}:{os.devnull}", str(tmp_path / "shim" / "python"))
    assert (done.returncode, done.stderr) == (127, "python: not found\n")
