"""A stopped command leaves no files behind and reports one line."""

import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Completed, command

from xorbench.errors import BadFile, BadOption
from xorbench.records import baselines, loading, store


def run_with(folder: Path, prepare: Callable[[], object], *arguments: str) -> Completed:
    """Run the real program in a folder after `prepare` has been called in its process."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=prepare,
    )


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_closed_standard_stream_changes_no_exit_code(
    copied: Path, tmp_path: Path, closed: int
) -> None:
    """The report is made as usual; only the output of the closed stream is missing."""
    expected = run_with(tmp_path, lambda: None, "report", copied.name)
    made = (copied / "report.md").read_bytes()
    done = run_with(tmp_path, lambda: os.close(closed), "report", copied.name)
    assert done.returncode == expected.returncode == 0
    assert (copied / "report.md").read_bytes() == made
    assert done.stdout == (expected.stdout if closed != 1 else "")
    assert done.stderr == (expected.stderr if closed != 2 else "")


@pytest.mark.parametrize("most", [8, 14])
def test_too_few_descriptors_are_one_line(tmp_path: Path, most: int) -> None:
    """A run that cannot open its pipes reports it and leaves no folder."""
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # noqa: E731
    done = run_with(tmp_path, few, "run", "--quick")
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("xorbench: ")]
    assert "too many open files" in lines[-1].lower()
    assert "Traceback" not in done.stderr
    runs = tmp_path / "results" / "runs"
    assert not runs.exists() or list(runs.iterdir()) == []


def test_a_full_disk_leaves_no_part_of_a_baseline(copied: Path, tmp_path: Path) -> None:
    """The copy is complete or missing; an existing baseline is unchanged."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))  # noqa: E731
    done = run_with(tmp_path, limit, "baseline", "save", "mine", copied.name)
    assert done.returncode == 2
    assert "cannot write: file too large" in done.stderr
    assert list((tmp_path / "results" / "baselines").iterdir()) == []
    baselines.save(tmp_path / "results", "mine", copied, replace=False)
    before = sorted((tmp_path / "results" / "baselines").rglob("*"))
    done = run_with(tmp_path, limit, "baseline", "save", "mine", copied.name, "--replace")
    assert done.returncode == 2
    assert sorted((tmp_path / "results" / "baselines").rglob("*")) == before


def test_a_folder_without_a_run_has_a_hint_to_remove_it(tmp_path: Path) -> None:
    """A run that was killed at its start left it; the hint is the command that removes it."""
    with pytest.raises(BadFile, match=r"holds no run\.json") as raised:
        loading.load(tmp_path)
    assert raised.value.hint.endswith(f"rm -r {tmp_path}")


def test_latest_as_a_folder_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """A run ends by pointing `latest` at itself, which must not replace a user's folder."""
    (tmp_path / "latest").mkdir()
    with pytest.raises(BadOption, match="latest is a folder"):
        store.create(tmp_path, None, 100, anonymous=False)
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]


def test_a_value_of_5000_digits_is_truncated(tmp_path: Path) -> None:
    """The line names the option and is short."""
    done = run_with(tmp_path, lambda: None, "run", "--epochs", "9" * 5000)
    assert done.returncode == 2
    assert done.stderr.startswith("xorbench: --epochs: must be a whole number, got '99")
    assert max(map(len, done.stderr.splitlines())) < 300
