"""What tests share: the real command line in a fresh folder, and one real run to read."""

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
import torch
from filelock import FileLock

from xorbench.cli import main
from xorbench.records import loading
from xorbench.records.schema.process import slot_of
from xorbench.records.schema.run import Run
from xorbench.records.schema.training import EpochLine

# A shell starts background jobs with SIGINT ignored, which children would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("GITHUB_STEP_SUMMARY", None)  # a CI's summary is for its users
torch.set_num_threads(1)  # as in a process: two threads wait for each other on busy cores
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # nor do those of processes spin while they wait

Completed = subprocess.CompletedProcess[str]
Xorbench = Callable[..., Completed]


def with_changed_epochs(run: Run, change: Callable[[EpochLine], EpochLine]) -> Run:
    """The run with each of its epochs changed."""
    changed = {
        training: [change(line) for line in lines]
        for training, lines in run.epochs_by_training.items()
    }
    return msgspec.structs.replace(run, epochs_by_training=changed)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Processes are staged below a folder of the test session, never the user's."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(common(tmp_path_factory) / "cache")
    yield
    os.environ.pop("XDG_CACHE_HOME")
    if before is not None:
        os.environ["XDG_CACHE_HOME"] = before


# Modules of the suite whose tests train, start processes that import PyTorch, or take long;
# `tox -e fast` leaves them out. Those of `trainings/`, `corpus/` and `frameworks/` all do.
TRAINING = {
    f"test_{name}"
    for name in (
        "canary", "diff", "engines", "extending", "golden_inputs", "lessons", "light_import",
        "loader_settings", "no_tax", "nothing_left", "phases", "probes", "process",
        "recorder_digest", "reference", "run", "sweep", "trace", "tutorial", "universal_backends",
        "universal_golden", "universal_injected", "working_folder", "workload",
    )
}  # fmt: skip
# Fixtures that are a run, or make one.
RUNS = {"xorbench", "quick_folder", "quick_run", "copied"}


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark the tests that train."""
    for item in items:
        if item.module.__name__ in TRAINING or RUNS & set(item.fixturenames):
            item.add_marker("trains")


def common(factory: pytest.TempPathFactory) -> Path:
    """A folder of this test session that all its processes share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills once for all processes of the session; to be read only.

    Two modules may use one name: each gets a folder of its own.
    """
    folder = common(factory) / f"{make.__module__}-{name}"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / "made").touch()
    return folder


def command(*arguments: str) -> list[str]:
    """The command line as a user types it."""
    return [sys.executable, "-m", "xorbench", *arguments]


def run_in(folder: Path, *arguments: str, **options: Any) -> Completed:
    """Run the real program in a folder and wait for it."""
    return subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, check=False, **options
    )


def call_in(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Completed:
    """Call the program in a folder, in this process, which has imported it; others are real."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as changed:
        changed.enter_context(mock.patch.dict(os.environ, env or {}, clear=env is not None))
        changed.enter_context(contextlib.chdir(folder))
        changed.enter_context(mock.patch.object(sys, "argv", ["xorbench", *arguments]))
        changed.enter_context(contextlib.redirect_stdout(out))
        changed.enter_context(contextlib.redirect_stderr(err))
        ended = changed.enter_context(pytest.raises(SystemExit))
        main()
    code = ended.value.code
    assert isinstance(code, int)
    return Completed([*arguments], code, out.getvalue(), err.getvalue())


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for_epochs(results: Path, count: int) -> None:
    """Wait until the newest run has recorded so many epochs."""
    path = results / "latest" / "epochs.jsonl"
    for _ in range(1_200):
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"fewer than {count} epochs in a minute")


@dataclass(frozen=True)
class Reported:
    """A `check` or an `explain` of a command, with `--json`, and the folder that it ran in."""

    done: Completed
    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        """What it says to programs."""
        found: dict[str, Any] = json.loads(self.done.stdout)
        return found

    @property
    def made(self) -> Path:
        """The folder of its records and reports."""
        (folder,) = (self.folder / "results" / "checks").iterdir()
        return folder


def reported(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Completed]
) -> Reported:
    """A check or an explanation that is made once for all processes of the session."""

    def kept(folder: Path) -> None:
        (folder / "work").mkdir()  # what `once` writes lies beside it
        done = make(folder / "work")
        said = {"args": [], "returncode": done.returncode}
        text = json.dumps({**said, "stdout": done.stdout, "stderr": done.stderr})
        (folder / "done.json").write_text(text)

    folder = once(factory, name, kept)
    return Reported(Completed(**json.loads((folder / "done.json").read_text())), folder / "work")


@pytest.fixture
def xorbench(tmp_path: Path) -> Xorbench:
    """The real program, run in this test's own empty folder."""
    return lambda *arguments, **options: run_in(tmp_path, *arguments, **options)


@pytest.fixture
def inside(tmp_path: Path) -> Xorbench:
    """The program, called in this process, in this test's own empty folder."""
    return lambda *arguments, **options: call_in(tmp_path, *arguments, **options)


@pytest.fixture(scope="session")
def quick_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `results` folder of one real `run --quick`, to be read only."""

    def make(folder: Path) -> None:
        done = run_in(folder, "run", "--quick", "--name", "first", "--save-weights")
        assert done.returncode == 0, done.stderr

    return once(tmp_path_factory, "quick", make) / "results"


@pytest.fixture(scope="session")
def quick_run(quick_folder: Path) -> Run:
    """The records of the quick run."""
    return loading.load((quick_folder / "latest").resolve())


@pytest.fixture
def copied(quick_folder: Path, tmp_path: Path) -> Path:
    """A copy of the quick run's folder that may be damaged."""
    target = tmp_path / "results" / "runs" / (quick_folder / "latest").resolve().name
    shutil.copytree(quick_folder / "latest", target)
    return target


def epoch_digests(results: Path) -> dict[tuple[str, str], list[str]]:
    """The epoch digests of each finished case in each slot of the newest run."""
    trainings = loading.load(results / "latest").trainings
    return {(one.case.id, slot_of(one.process)): one.epoch_digests for one in trainings}


def with_epochs(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the timed epochs of a run, without their weights: a digest is then believed."""
    path = folder / "epochs.jsonl"
    changed = []
    for text in path.read_text().splitlines():
        line: dict[str, Any] = json.loads(text)
        line.pop("weights", None)
        changed.append(line if line.get("warmup") else line | change(line))
    path.write_text("".join(json.dumps(line) + "\n" for line in changed))
