"""No observation is lost if processes or the orchestrator die, or if the disk is full."""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import (
    Xorbench,
    call_in,
    command,
    epoch_digests,
    once,
    run_in,
    wait_for_epochs,
)

from xorbench.errors import BadFile
from xorbench.records import loading, store
from xorbench.records.schema.run import Run
from xorbench.runtime.slots import make_slots
from xorbench.runtime.start import require_same_machine

EPOCHS = 16
QUICK = ("run", "--quick", "--epochs", str(EPOCHS), "--processes", "1")


@pytest.fixture(scope="module")
def undisturbed(quick_folder: Path) -> dict[tuple[str, str], list[str]]:
    """The epoch digests of an undisturbed run: the first ones of a longer run."""
    whole = epoch_digests(quick_folder)
    return {key: digests[:EPOCHS] for key, digests in whole.items() if key[1] == "p0"}


@contextlib.contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The run in its own process, after its first epochs; killed at the end."""
    process = subprocess.Popen(
        command(*QUICK), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_epochs(folder / "results", 8)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `results` of a run that was resumed while it was alive, then killed; read-only."""

    def make(folder: Path) -> None:
        with started(folder) as process:
            resumed = call_in(folder, "run", "--resume", "latest")
            processes = children(process)
            assert processes
            time.sleep(random.Random(1).uniform(0.0, 0.6))
            process.send_signal(signal.SIGKILL)
            process.wait()
            outcome = {
                "code": resumed.returncode,
                "stderr": resumed.stderr,
                "ended": have_ended(processes),
            }
        (folder / "outcome.json").write_text(json.dumps(outcome))

    return once(tmp_path_factory, "killed", make) / "results"


@pytest.fixture
def left(killed: Path, tmp_path: Path) -> Path:
    """The folder `latest` in a copy of the killed run's results, which may be changed."""
    shutil.copytree(killed, tmp_path / "results", symlinks=True)
    return (tmp_path / "results" / "latest").resolve()


def outcome_of(killed: Path) -> dict[str, Any]:
    """The outcome of the resume before the run was killed, and of the processes afterwards."""
    outcome: dict[str, Any] = json.loads((killed.parent / "outcome.json").read_text())
    return outcome


def children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The descendants of a process."""
    processes: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return processes


def have_ended(processes: list[psutil.Process]) -> bool:
    """Whether all of them end within ten seconds."""
    _, alive = psutil.wait_procs(processes, timeout=10)
    return not alive


def test_a_killed_run_leaves_no_orphan_and_resumes_with_identical_bits(
    killed: Path, left: Path, undisturbed: dict[tuple[str, str], list[str]], tmp_path: Path
) -> None:
    """After `kill -9` and `--resume`, the epoch digests are unchanged (20 times in bench/)."""
    assert outcome_of(killed)["ended"]
    before = loading.load(left)
    assert before.unfinished
    assert call_in(tmp_path, "report").returncode == 3  # an unfinished run does not pass
    done = run_in(tmp_path, "run", "--resume", "latest")
    assert done.returncode in (0, 1), done.stderr
    assert undisturbed == epoch_digests(tmp_path / "results")
    after = loading.load(left)
    assert after.info.finished
    assert not after.unfinished
    for training, lines in before.epochs_by_training.items():
        assert after.epochs_by_training[training][: len(lines)] == lines


def test_a_truncated_last_line_is_dropped_on_resume(
    left: Path, undisturbed: dict[tuple[str, str], list[str]], tmp_path: Path
) -> None:
    """A partial line at the end of epochs.jsonl affects only the record of that epoch."""
    path = left / "epochs.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert call_in(tmp_path, "run", "--resume", "latest").returncode in (0, 1)
    assert undisturbed == epoch_digests(tmp_path / "results")


def test_a_run_that_does_not_reproduce_its_record_fails(left: Path, tmp_path: Path) -> None:
    """A case fails if its resumed training does not reproduce a recorded digest."""
    path = left / "epochs.jsonl"
    lines = path.read_text().splitlines()
    index = next(i for i, line in enumerate(lines) if '"warmup"' not in line and "drop0" in line)
    record = json.loads(lines[index])
    lines[index] = json.dumps(record | {"digest": "0" * 64})
    path.write_text("\n".join(lines) + "\n")
    done = call_in(tmp_path, "run", "--resume", "latest")
    assert done.returncode == 1
    assert "after a restart, epoch 0 gave digest" in done.stdout


def test_a_run_recorded_elsewhere_is_not_resumed(left: Path, tmp_path: Path) -> None:
    """A different PyTorch may give different bits: resuming is an error, and nothing changes."""
    info = json.loads((left / "run.json").read_text())
    for process in info["processes"]:
        process["machine"]["torch_version"] = "1.0"
    (left / "run.json").write_text(json.dumps(info))
    before = (left / "epochs.jsonl").read_bytes()
    done = call_in(tmp_path, "run", "--resume", "latest")
    assert done.returncode == 2
    assert "recorded with torch_version 1.0" in done.stderr
    assert before == (left / "epochs.jsonl").read_bytes()


def test_a_run_with_a_different_calibration_is_not_resumed(quick_run: Run) -> None:
    """Two calibration workloads in one training would make its normalized time meaningless."""
    slots = make_slots(quick_run.info.configs, quick_run.info.processes_per_config)
    for slot in slots:
        slot.calibration_version = quick_run.info.calibration_version
        slot.machine = quick_run.info.processes[0].machine
    require_same_machine(quick_run, slots, Path("run"))
    slots[0].calibration_version += 1
    with pytest.raises(BadFile, match="timed with calibration version"):
        require_same_machine(quick_run, slots, Path("run"))


def test_a_run_in_progress_cannot_be_resumed(killed: Path) -> None:
    """The folder is locked while its run is alive."""
    assert outcome_of(killed)["code"] == 2
    assert "still in progress" in outcome_of(killed)["stderr"]


def test_resuming_a_finished_run_only_makes_its_report(copied: Path, inside: Xorbench) -> None:
    """No process starts."""
    before = (copied / "epochs.jsonl").read_bytes()
    done = inside("run", "--resume", copied.name, "--verbose")
    assert done.returncode == 0, done.stderr
    assert before == (copied / "epochs.jsonl").read_bytes()


def test_a_run_killed_at_its_very_end_is_finished_by_resume(copied: Path, inside: Xorbench) -> None:
    """If all cases have trained but `finished` is missing, resume writes it."""
    path = copied / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": None}))
    assert inside("run", "--resume", copied.name).returncode == 0
    assert loading.load(copied).info.finished


def test_a_run_under_load_is_resumed_under_load(copied: Path, tmp_path: Path) -> None:
    """The stressors run again until the end of the resumed run."""
    info = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps(info | {"stress": "cpu", "finished": None}))
    for name in ("epochs.jsonl", "results.jsonl"):
        lines = (copied / name).read_text().splitlines(keepends=True)
        (copied / name).write_text("".join(lines[:-1]))
    with subprocess.Popen(command("run", "--resume", copied.name), cwd=tmp_path) as resumed:
        stressors: list[psutil.Process] = []
        while resumed.poll() is None and not stressors:
            with contextlib.suppress(psutil.NoSuchProcess):  # a process has just ended
                stressors = [p for p in children(resumed) if "stressors" in " ".join(p.cmdline())]
        assert stressors
        assert resumed.wait(timeout=120) in (0, 1)
    assert have_ended(stressors)


def test_a_run_without_its_results_does_not_pass(copied: Path, inside: Xorbench) -> None:
    """A finished run with missing trainings is inconclusive."""
    (copied / "results.jsonl").unlink()
    assert inside("report", copied.name).returncode == 3


def test_a_process_killed_from_outside_fails_at_most_its_case(
    undisturbed: dict[tuple[str, str], list[str]], tmp_path: Path
) -> None:
    """The other trainings restart, reproduce their epoch digests, and finish; exit code 1."""
    with started(tmp_path) as run_of:
        victim = next(p for p in children(run_of) if "xorbench.process" in " ".join(p.cmdline()))
        victim.kill()
        assert run_of.wait(timeout=60) == 1
    run = loading.load((tmp_path / "results" / "latest").resolve())
    assert len(run.failures) <= 1
    assert not run.unfinished
    assert [w.died for w in run.info.processes if w.died] == ["killed by SIGKILL"]
    survivors = epoch_digests(tmp_path / "results")
    assert len(survivors) == len(undisturbed) - len(run.failures)
    assert survivors.items() <= undisturbed.items()


def test_after_a_crash_of_a_case_the_others_continue(inside: Xorbench, tmp_path: Path) -> None:
    """After segmentation faults of one case it has failures, and the other case is complete."""
    done = inside(
        *("run", "--quick", "--epochs", "3", "--processes", "3"),
        *("--inject", "crash:epoch=1,cases=*drop0*"),
    )
    assert done.returncode == 1
    run = loading.load((tmp_path / "results" / "latest").resolve())
    reasons = [failure.failed for failure in run.failures]
    assert sum("died: killed by SIGSEGV" in reason for reason in reasons) == 2
    assert reasons[-1] == "not tried again: it has killed 2 processes"
    assert {t.case.drop_last for t in run.trainings} == {True}
    assert len(run.trainings) == 3
    table = (tmp_path / "results" / "latest" / "throughput.csv").read_text()
    assert "failed: process p" in table
    assert "Segmentation fault" in "".join(
        path.read_text() for path in (tmp_path / "results" / "latest" / "logs").iterdir()
    )


def test_a_hanging_case_is_a_failure_after_the_timeout(inside: Xorbench, tmp_path: Path) -> None:
    """Without an answer within --timeout, its process is killed; the other case finishes."""
    done = inside(
        *("run", "--quick", "--epochs", "3", "--processes", "1", "--timeout", "4"),
        *("--inject", "hang:epoch=1,cases=*drop0*"),
    )
    assert done.returncode == 1
    run = loading.load((tmp_path / "results" / "latest").resolve())
    assert [f.failed for f in run.failures] == [
        "process p0 died: no answer within 4 s, so it was killed"
    ]
    assert len(run.trainings) == 1


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    """If a file cannot grow, the run reports it and exits with 2; its files are readable."""
    done = subprocess.run(
        command("run", "--quick"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
    )
    assert done.returncode == 2
    message = [line for line in done.stderr.splitlines() if "cannot write" in line]
    assert len(message) == 1
    assert "epochs.jsonl: cannot write: file too large" in message[0]
    assert loading.load((tmp_path / "results" / "latest").resolve()).epochs


def test_too_little_space_is_an_error_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the run does not fit on the disk, it ends at once and leaves no folder."""
    from xorbench.errors import BadOption

    usage = type("Usage", (), {"free": 1_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
    with pytest.raises(BadOption, match=r"--out: .* the run needs 8"):
        store.create(tmp_path, None, 100, anonymous=False)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_file_in_place_of_the_folder_is_one_clear_line(inside: Xorbench, tmp_path: Path) -> None:
    """`--out` with a file is an error before any training."""
    (tmp_path / "results").write_text("mine")
    done = inside("run", "--quick")
    assert done.returncode == 2
    assert done.stderr.startswith("xorbench: --out: cannot write to results")
    assert (tmp_path / "results").read_text() == "mine"


def test_a_process_that_cannot_start_names_the_reason(tmp_path: Path) -> None:
    """Without torch the run ends at once with the interpreter's error."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = call_in(tmp_path, "run", "--quick", env=environment)
    assert done.returncode == 2
    assert "could not start" in done.stderr
    assert "no torch here" in done.stderr
    assert list((tmp_path / "results" / "runs").iterdir()) == []


# A training in a process that outlives the command

DAEMON = """
import os, sys, time
import torch

torch.manual_seed(0)
model = torch.nn.Linear(4, 2)

def train(steps, pause):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(3, 4)).square().sum().backward()
        optimizer.step()
        time.sleep(pause)

def daemon(work):
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    work()
    os._exit(0)

if sys.argv[1] == "training":
    daemon(lambda: train(1000, 0.1))
elif sys.argv[1] == "helper":
    daemon(lambda: time.sleep(600))
    train(3, 0)
"""


def check_daemon(folder: Path, kind: str) -> dict[str, Any]:
    """Check the program with a daemon of this kind; return answer and exit code."""
    (folder / "daemon.py").write_text(DAEMON)
    done = call_in(folder, "check", "--json", "--", sys.executable, "daemon.py", kind)
    answer: dict[str, Any] = json.loads(done.stdout)
    return {**answer, "code": done.returncode}


def test_a_training_in_a_daemon_is_inconclusive(tmp_path: Path) -> None:
    """The command ends at once and the training daemon is killed; exit code 3 with the reason."""
    answer = check_daemon(tmp_path, "training")
    assert answer["code"] == 3
    assert "the training runs in a process that outlived the command" in answer["sentence"]


def test_a_helper_that_outlives_the_command_is_a_note(tmp_path: Path) -> None:
    """It does not train, so it does not affect the answer, and a note names the process."""
    answer = check_daemon(tmp_path, "helper")
    assert answer["code"] == 0
    assert "left processes running" in " ".join(answer["notes"])


# Processes killed at random moments

BUSY = """
import os, subprocess, sys, time

def forked(prepare):
    if not os.fork():
        prepare()
        while True:
            time.sleep(60)

forked(lambda: None)
forked(os.setsid)
sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
subprocess.Popen(sleeper, start_new_session=True)
time.sleep(600)
"""
MARK = "SURVIVAL_TEST"


def marked(value: str) -> list[psutil.Process]:
    """The living processes with this value of the mark in their environment."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == value and process.status() != "zombie":
                processes.append(process)
    return processes


def started_check(folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a check of a program with several processes, in a copy of the folder."""
    return subprocess.Popen(
        command("check", "--exclude", "temporary", "--", sys.executable, "busy.py"),
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def victims(process: subprocess.Popen[bytes], draw: random.Random) -> list[psutil.Process]:
    """One or two of the program, its supervisor and its watchdog, in any order."""
    program = psutil.Process(process.pid)
    chain = [program]
    with contextlib.suppress(psutil.Error):
        while len(chain) < 3 and (children := chain[-1].children()):
            chain.append(children[0])
    return draw.sample(chain, min(len(chain), draw.choice((1, 2))))


def test_killed_at_random_moments_it_leaves_no_process_and_no_copy(tmp_path: Path) -> None:
    """After SIGKILL of one or two of its three processes, 20 times; copies are removed later."""
    draw = random.Random(20)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "busy.py").write_text(BUSY)
    environment = os.environ | {"TMPDIR": str(temporary), MARK: str(tmp_path)}
    for number in range(20):
        with started_check(tmp_path, environment) as process:
            time.sleep(draw.uniform(0.1, 1.2))
            killed = victims(process, draw)
            for victim in killed:
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.kill()
            if process.pid not in [victim.pid for victim in killed]:
                time.sleep(draw.uniform(0.0, 0.2))
                process.send_signal(signal.SIGTERM)
            process.wait(60)
        deadline = time.monotonic() + 20
        while (left := marked(str(tmp_path))) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left, f"round {number}: {left}"
    for folder in temporary.iterdir():
        os.utime(folder, (0, 0))  # one without a record of its owner is removed after a minute
    subprocess.run(
        command("check", "--exclude", "temporary", "--", "true"),
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert list(temporary.rglob("*")) == []
