"""Two trainings turn by turn: stopped while the other computes, and ended with their owner."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import command, run_in

from xorbench.programs.turns import Turns
from xorbench.runtime.supervision import Supervision

DEADLINE_S = 120
LIMIT_S = 300.0
TRAINING = """
import os, sys, time, torch
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(int(sys.argv[1])):
    time.sleep(0.02)
    if step == int(os.environ.get("FAILS_AT", -1)):
        if sys.argv[2:] == ["fails"]:
            raise SystemExit("no more data")
        if sys.argv[2:] == ["dies"]:
            os.kill(os.getpid(), 9)
    optimizer.zero_grad()
    model(torch.ones(8, 3)).square().mean().backward()
    optimizer.step()
"""
# A process and a grandchild in a session of its own; each writes its process id.
TREE = """
import os, sys, time
folder = sys.argv[1]
def report(name):
    with open(f"{folder}/{os.getpid()}.part", "w") as file:
        file.write(name)
    os.rename(f"{folder}/{os.getpid()}.part", f"{folder}/{os.getpid()}")
if not os.fork():
    os.setsid()
    report("grandchild")
    while True:
        time.sleep(0.01)
report("child")
"""


def wait_for(condition: Callable[[], bool], failure: str) -> None:
    """Wait until a condition is true; fail with a message after the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.02)


def pids(folder: Path) -> list[int]:
    """The processes that have reported."""
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


def states(folder: Path) -> list[str]:
    """The states of the living ones among them."""
    statuses = []
    for pid in pids(folder):
        with contextlib.suppress(psutil.Error):
            statuses.append(psutil.Process(pid).status())
    return [state for state in statuses if state != psutil.STATUS_ZOMBIE]


def checked(folder: Path, a: str, b: str, *options: str) -> tuple[dict[str, Any], Path]:
    """The result of a comparison of speeds, and its folder."""
    words = ("check", "--against", a, "--speed-only", "--json", *options, "--", *b.split())
    done = run_in(folder, *words, timeout=LIMIT_S)
    assert done.stdout, done.stderr
    (made,) = (folder / "results" / "checks").iterdir()
    return json.loads(done.stdout), made


@pytest.fixture
def script(tmp_path: Path) -> str:
    """A command that trains for some steps, which follow."""
    (tmp_path / "train.py").write_text(TRAINING)
    return f"{sys.executable} train.py"


def request(folder: Path, words: list[str], timeout_s: float = 60.0) -> dict[str, Any]:
    """A request to the supervisor."""
    return {
        "command": words,
        "folder": str(folder),
        "environment": {**os.environ, "XORBENCH_RECORD": str(folder)},
        "records": str(folder),
        "stdout": str(folder / "stdout.txt"),
        "stderr": str(folder / "stderr.txt"),
        "temporary": [],
        "timeout_s": timeout_s,
        "stops": False,
    }


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., Supervision]]:
    """A function that starts a supervised command in the folder."""
    running: list[Supervision] = []

    def start(*words: str, **options: float) -> Supervision:
        running.append(Supervision(request(tmp_path, [sys.executable, *words], **options)))
        return running[-1]

    yield start
    for supervision in running:
        supervision.close()


# The supervisor


def test_a_stopped_command_computes_nothing_until_it_is_continued(
    supervised: Callable[..., Supervision], tmp_path: Path
) -> None:
    """All of its processes, one of them in a session of its own."""
    busy = TREE.replace("time.sleep(0.01)", "pass") + "\nwhile True: pass\n"
    (tmp_path / "pids").mkdir()
    run = supervised("-c", busy, str(tmp_path / "pids"))
    wait_for(lambda: len(pids(tmp_path / "pids")) == 2, "the tree did not start")
    stopped = run.stop()
    assert stopped is not None
    assert stopped["processes"] == 2
    wait_for(lambda: states(tmp_path / "pids") == [psutil.STATUS_STOPPED] * 2, "not stopped")
    time.sleep(0.3)
    continued = run.resume()
    assert continued is not None
    assert continued["cpu_s"] - stopped["cpu_s"] < 0.1
    wait_for(lambda: psutil.STATUS_STOPPED not in states(tmp_path / "pids"), "still stopped")
    run.end()
    assert states(tmp_path / "pids") == []


def test_a_process_that_the_program_stopped_stays_stopped(
    supervised: Callable[..., Supervision], tmp_path: Path
) -> None:
    """Only what the supervisor stopped is continued."""
    (tmp_path / "pids").mkdir()
    own = "os.kill(os.getpid(), 19)\n    while True"
    run = supervised("-c", TREE.replace("while True", own) + "time.sleep(60)", f"{tmp_path}/pids")
    wait_for(lambda: psutil.STATUS_STOPPED in states(tmp_path / "pids"), "not stopped by itself")
    run.stop()
    run.resume()
    wait_for(lambda: states(tmp_path / "pids").count(psutil.STATUS_STOPPED) == 1, "continued")


def test_the_time_limit_counts_only_the_time_of_the_own_turns(
    supervised: Callable[..., Supervision],
) -> None:
    """Stopped for longer than the limit, the command still ends on its own."""
    run = supervised("-c", "import time; time.sleep(0.3)", timeout_s=2.0)
    assert run.stop() is not None
    time.sleep(2.5)
    assert run.resume() is not None
    answer = run.wait()
    assert (answer["how"], answer["code"]) == ("ended", 0)


def test_a_run_that_has_ended_has_no_turn(supervised: Callable[..., Supervision]) -> None:
    """Its answer replaces the reply."""
    run = supervised("-c", "")
    assert run.wait()["code"] == 0
    assert run.stop() is None
    assert run.resume() is None


# The owner


@pytest.mark.parametrize(
    ("victim", "number", "code"),
    [
        ("xorbench", signal.SIGKILL, -signal.SIGKILL),
        ("xorbench", signal.SIGINT, 130),
        ("supervisor", signal.SIGKILL, 2),
        ("other supervisor", signal.SIGKILL, 2),
    ],
)
def test_no_stopped_process_remains(
    script: str, tmp_path: Path, victim: str, number: int, code: int
) -> None:
    """Whatever dies in the middle of a turn; the grandchildren have sessions of their own."""
    folder = tmp_path / "pids"
    folder.mkdir()
    (tmp_path / "train.py").write_text(TREE + TRAINING.replace("sys.argv[1]", "10_000"))
    words = ("check", "--against", f"{script} {folder}", "--speed-only", "--", *script.split())
    owner = subprocess.Popen(
        command(*words, str(folder)), cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        wait_for(lambda: len(pids(folder)) == 4, "the trainings did not start")
        records = (tmp_path / "results").rglob
        wait_for(lambda: len(list(records("[0-9]*.jsonl"))) == 2, "no turns")
        wait_for(lambda: states(folder).count(psutil.STATUS_STOPPED) == 2, "none is stopped")
        children = psutil.Process(owner.pid).children()
        target = {"xorbench": -1, "supervisor": 0, "other supervisor": 1}[victim]
        os.kill(owner.pid if target < 0 else children[target].pid, number)
        wait_for(lambda: states(folder) == [], "processes remain")
        assert owner.wait(timeout=DEADLINE_S) == code
    finally:
        owner.kill()
        for pid in pids(folder):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        owner.communicate()


# The comparison


def test_sides_with_different_numbers_of_steps_take_turns_until_one_ends(
    script: str, tmp_path: Path
) -> None:
    """The side with more steps is stopped; its exit code is not missed."""
    options = ("--processes", "2", "--threshold", "90%")
    result, made = checked(tmp_path, f"{script} 12", f"{script} 40", *options)
    assert result["speed"]["verdict"] in ("same", "inconclusive"), result["sentence"]
    assert result["speed"]["a"]["steps"] == result["speed"]["b"]["steps"]
    assert result["speed"]["pairs"]["turns"][0] >= 4
    how = [json.loads((made / f"turns-{side}-1/ended.json").read_text()) for side in "ab"]
    assert [(end["how"], end["code"]) for end in how] == [("ended", 0), ("stopped", None)]
    turns = Turns.read(made / "turns-1.json")
    assert sum(turns.waiting_cpu_s.values()) < 0.1
    assert set(turns.order) <= {"A", "B"}


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("fails", "B: the command failed in run 1: exit code 1: no more data"),
        ("dies", "B: the command failed in run 1: killed by signal 9"),
    ],
)
def test_a_side_that_fails_in_its_turn_ends_the_pair(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, sentence: str
) -> None:
    """It is named with its last output, and the other side is ended."""
    monkeypatch.setenv("FAILS_AT", "8")
    result, made = checked(tmp_path, f"{script} 500", f"{script} 500 {how}")
    assert result["exit_code"] == 1
    assert sentence in result["sentence"]
    assert json.loads((made / "turns-a-1/ended.json").read_text())["how"] == "stopped"


def test_a_stored_comparison_has_the_same_answer(script: str, tmp_path: Path) -> None:
    """The turns of each pair are stored; without a first pair there is no answer."""
    result, made = checked(tmp_path, f"{script} 12", f"{script} 12", "--processes", "2")
    again = run_in(tmp_path, "check", "--json", "--from", str(made), timeout=LIMIT_S)
    assert json.loads(again.stdout)["sentence"] == result["sentence"]
    (made / "turns-1.json").write_text("{")
    damaged = run_in(tmp_path, "check", "--from", str(made), timeout=LIMIT_S)
    assert damaged.returncode == 2
    assert "turns-1.json: damaged" in damaged.stderr


LOADER = """
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.set_num_threads(1)
loader = DataLoader(TensorDataset(torch.ones(800, 3)), batch_size=2, num_workers=2)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for (batch,) in loader:
    optimizer.zero_grad()
    model(batch).square().mean().backward()
    optimizer.step()
"""
COMPILED_BY_INDUCTOR = """
import torch
torch.set_num_threads(1)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
run, step = torch.compile(model), torch.compile(optimizer.step)
for _ in range(400):
    optimizer.zero_grad()
    run(torch.ones(8, 3)).square().mean().backward()
    step()
"""
COMPILED = """
import torch
torch.set_num_threads(1)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
step = torch.compile(optimizer.step, backend="eager")
for _ in range(400):
    optimizer.zero_grad()
    model(torch.ones(8, 3)).square().mean().backward()
    step()
"""
RANKS = """
import torch
import torch.distributed as dist
torch.set_num_threads(1)
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(400):
    optimizer.zero_grad()
    model(torch.ones(8, 3)).square().mean().backward()
    optimizer.step()
dist.destroy_process_group()
"""
TORCHRUN = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2 train.py"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        pytest.param(
            LOADER,
            f"{sys.executable} train.py",
            id="loader processes",
            marks=pytest.mark.variant,
        ),
        pytest.param(
            COMPILED,
            f"{sys.executable} train.py",
            id="compiled step",
            marks=pytest.mark.variant,
        ),
        pytest.param(
            COMPILED_BY_INDUCTOR,
            f"{sys.executable} train.py",
            id="compiled model and step",
            marks=pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler"),
        ),
        pytest.param(RANKS, TORCHRUN, id="two ranks"),
    ],
)
def test_a_training_with_several_processes_or_a_compiled_step_takes_turns(
    program: str, words: str, tmp_path: Path
) -> None:
    """Both sides end on their own; nothing computes while it is stopped."""
    (tmp_path / "train.py").write_text(program)
    result, made = checked(tmp_path, words, words, "--processes", "2", "--threshold", "90%")
    assert result["speed"]["pairs"] is not None, result["sentence"]
    assert not any("one after the other" in note for note in result["notes"])
    turns = Turns.read(made / "turns-1.json")
    assert sum(turn.steps for turn in turns.turns["A"]) >= 3
    for side in "ab":
        ended = json.loads((made / f"turns-{side}-1/ended.json").read_text())
        assert (ended["how"], ended["code"], ended["left"]) in (
            ("ended", 0, []),
            ("stopped", None, []),
        )


PORT = f"""
import socket
port = socket.socket()
port.bind(("127.0.0.1", int(__import__("os").environ["PORT"])))
port.listen()
{TRAINING}
"""


def test_trainings_that_cannot_be_alive_together_are_timed_one_after_the_other(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both use one port; a note gives the reason."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PORT", str(free.getsockname()[1]))
    (tmp_path / "train.py").write_text(PORT)
    result, made = checked(tmp_path, f"{script} 9", f"{script} 9", "--processes", "2")
    assert result["speed"]["a"]["processes"] == 2, result["sentence"]
    assert result["speed"]["pairs"] is None
    assert any("B failed while the other was alive" in note for note in result["notes"])
    assert (made / "clock-b-2").is_dir()


def test_runs_in_one_folder_are_timed_one_after_the_other(script: str, tmp_path: Path) -> None:
    """Both would write the same files; `--turns off` needs no note."""
    options = ("--processes", "2", "--in-place")
    result, _ = checked(tmp_path, f"{script} 9", f"{script} 9", *options)
    assert result["speed"]["pairs"] is None
    assert any("same folder" in note for note in result["notes"])
