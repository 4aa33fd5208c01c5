"""`check` of a training in several processes: real torchrun, two ranks, gloo."""

import json
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Completed, call_in, once, run_in

from xorbench.programs.check_questions import answer_again
from xorbench.programs.run_processes import first_failure, port_warning
from xorbench.records import trace as traces
from xorbench.records.trace import TraceFile

Program = Callable[..., Completed]
TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
TWO = (TORCHRUN, "--standalone", "--nproc-per-node", "2")

# Each rank has dropout of its own; rank 0 saves every second step. A resume refuses to begin while
# a process of the killed run lives, and at step 4 gives each rank the generator of rank 0.
DATA_PARALLEL = """
import os, sys, time
import psutil, torch
import torch.distributed as dist
from torch import nn

if "--resume" in sys.argv:
    for process in psutil.process_iter():
        try:
            killed = process.environ().get("XORBENCH_RUN") == "2" and process.cwd() == os.getcwd()
        except psutil.Error:
            continue
        if killed and process.status() != psutil.STATUS_ZOMBIE:
            sys.exit(f"{process.cmdline()} is alive")
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
parallel = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
x = torch.randn(12, 2, 4)
torch.manual_seed(1 + rank)
done = 0
if "--resume" in sys.argv:
    saved = torch.load("saved.pt", weights_only=False)
    done = saved["done"]
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(saved["generators"][0 if done == 4 else rank])
if "--fault" in sys.argv and rank == 1:
    torch.seed()
for step in range(done, 6):
    if "--die" in sys.argv and rank == 1 and step == 2:
        raise RuntimeError("there is no step 2")
    optimizer.zero_grad()
    parallel(x[2 * step + rank]).square().mean().backward()
    optimizer.step()
    if step % 2 == 1:
        states = [None, None]
        dist.all_gather_object(states, torch.get_rng_state())
        if rank == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "done": step + 1, "generators": states}, "saved.part")
            os.replace("saved.part", "saved.pt")
time.sleep(0.1)  # as in tests/ranks/training.py
dist.destroy_process_group()
"""

# Started by `multiprocessing`, in any order; only the process group knows which rank is which.
SPAWNED = """
import os, sys
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

def train(rank):
    store = dist.FileStore(os.path.abspath("store"), 2)
    dist.init_process_group("gloo", rank=rank, world_size=2, store=store)
    torch.manual_seed(rank)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        model(torch.randn(2, 3)).sum().backward()
        optimizer.step()
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.spawn(train, nprocs=2)
"""

# Independent ranks, one of which dies once; the number of steps of the other depends on the time.
DIES_ONCE = """
import os, sys, time
import torch

rank, restart = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
torch.manual_seed(int(rank))
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    if (rank, restart) == ("1", "0") and step == 2:
        sys.exit(7)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    while (rank, restart) == ("0", "0"):
        time.sleep(0.01 * (1 + int(os.environ["XORBENCH_RUN"])))
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
"""


def _write_programs(folder: Path) -> None:
    (folder / "parallel.py").write_text(DATA_PARALLEL)
    (folder / "once.py").write_text(DIES_ONCE)
    (folder / "spawned.py").write_text(SPAWNED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the programs."""
    _write_programs(tmp_path)
    return tmp_path


def checked(
    folder: Path, *arguments: str, program: Program = call_in
) -> tuple[Completed, dict[str, Any], Path]:
    """Run `check` in the folder: its output, its result, and the folder of its files."""
    before = set(folder.glob("results/checks/*"))
    done = program(folder, "check", *arguments, env={**os.environ, "OMP_NUM_THREADS": "1"})
    (made,) = set(folder.glob("results/checks/*")) - before
    return done, json.loads((made / "result.json").read_text()), made


@pytest.fixture(scope="session")
def correct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a check of a correct training that ends after 4 steps; not to be changed."""

    def make(folder: Path) -> None:
        _write_programs(folder)
        done, _, _ = checked(folder, "--steps", "4", "--", *TWO, "parallel.py")
        assert done.returncode == 0, done.stderr

    (made,) = once(tmp_path_factory, "ranks", make).glob("results/checks/*")
    return made


def test_each_rank_is_compared_with_itself(correct: Path) -> None:
    """The random numbers of the ranks differ, but each rank is reproducible."""
    result = json.loads((correct / "result.json").read_text())
    assert result["sentence"] == "bitwise identical in 2 runs: 4 steps in each of 2 ranks"


def test_steps_ends_every_rank_after_the_same_number(correct: Path) -> None:
    """All ranks report their steps before they are killed."""
    for run in ("run-1", "run-2"):
        records = _by_rank(traces.recorded(correct / run / "records"))
        assert [trace.head.process and trace.head.process.rank for trace in records] == ["0", "1"]
        assert [trace.step_count for trace in records] == [4, 4]


def _by_rank(records: list[TraceFile]) -> list[TraceFile]:
    return sorted(records, key=lambda trace: (trace.head.process and trace.head.process.rank) or "")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (("run-1", "run-2"), "rank 1 left no record in run 1, run 2"),
        (("run-2",), "rank 1 left no record in run 2"),
    ],
)
def test_a_rank_without_a_record_is_inconclusive(
    correct: Path, tmp_path: Path, runs: tuple[str, ...], message: str
) -> None:
    """A rank that was not recorded cannot be identical."""
    copy = tmp_path / "check"
    shutil.copytree(correct, copy)
    for run in runs:
        _by_rank(traces.recorded(copy / run / "records"))[1].path.unlink()
    outcome = answer_again(copy)
    assert outcome.exit_code == 3
    assert outcome.conclusion.sentence == f"{message}; the records of the other ranks are identical"


def test_a_fault_of_one_rank_is_located(folder: Path) -> None:
    """Rank 1 sets no seed: its dropout differs, then the weights of both."""
    done, result, _ = checked(folder, "--steps", "2", "--", *TWO, "parallel.py", "--fault")
    assert done.returncode == 1, done.stderr
    assert result["component"] == "forward"
    assert "in step 0 of rank 1, in the loss" in result["sentence"]
    assert "rank 1: step 0" in result["details"]["first difference"]
    assert "rank 0: step 1" in result["details"]["first difference"]
    assert result["details"]["reruns"] == "2 of 2 pairs of runs diverge"
    assert "use a fixed seed for torch cpu at parallel.py:31" in result["hint"]


def test_every_rank_is_killed_and_compared_after_the_resume(folder: Path) -> None:
    """After 3 steps it resumes exactly; after 5, rank 1 lacks its own generator."""
    resume = shlex.join([*TWO, "parallel.py", "--resume"])
    options = ("--kill-after", "3,5", "--resume", resume)
    done, result, _ = checked(folder, *options, "--", *TWO, "parallel.py")
    assert done.returncode == 1, done.stderr
    assert result["details"]["killed after 3"] == (
        "resumed at step 2, all 4 remaining steps are identical"
    )
    assert "resumed at step 4: rank 1: the loss differs" in result["sentence"]
    assert result["component"] == "generators"


def test_ranks_without_a_launcher_are_identified_by_their_process_group(folder: Path) -> None:
    """The order of the first steps of two spawned processes varies between runs."""
    done, result, made = checked(folder, "--steps", "2", "--", sys.executable, "spawned.py")
    assert done.returncode == 0, result["sentence"]
    assert result["sentence"] == "bitwise identical in 2 runs: 2 steps in each of 2 ranks"
    processes = [
        trace.head.process for trace in _by_rank(traces.recorded(made / "run-1" / "records"))
    ]
    assert [trace and (trace.rank, trace.world_size) for trace in processes] == [("0", 2), ("1", 2)]
    assert result["notes"] == []


@pytest.mark.variant
def test_a_restart_by_the_launcher_is_a_separate_process(folder: Path) -> None:
    """The number of steps before the launcher ended the surviving rank is not compared."""
    words = (*TWO, "--max-restarts", "1", "once.py")
    done, result, made = checked(folder, "--", *words)
    assert done.returncode == 0, done.stderr
    assert "up to " in result["sentence"]
    coverage = "; ".join(key for key in result["details"] if key.startswith("coverage of"))
    assert "rank 1, restart 1" in coverage
    steps = {
        (trace.head.process.rank, trace.head.process.restart): trace.step_count
        for trace in traces.recorded(made / "run-1" / "records")
        if trace.head.process
    }
    assert steps.pop(("0", "0")) > 0
    assert steps == {("1", "0"): 2, ("0", "1"): 4, ("1", "1"): 4}


def test_a_rank_that_dies_is_named_with_its_last_line(folder: Path) -> None:
    """The launcher's own last lines do not contain the reason."""
    done, result, _ = checked(folder, "--", *TWO, "parallel.py", "--die", program=run_in)
    assert done.returncode == 1
    assert result["sentence"] == (
        "the command failed in run 1: exit code 1: rank 1 failed first, exit code 1: RuntimeError:"
        " there is no step 2"
    )


def test_standalone_is_suggested_if_the_port_is_in_use(folder: Path) -> None:
    """Two launches on one port: the second fails, and the hint names `--standalone`."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = (TORCHRUN, "--master-port", port, "--nproc-per-node", "2", "parallel.py")
        done, result, _ = checked(folder, "--", *words)
    assert done.returncode == 1
    assert "EADDRINUSE" in result["sentence"]
    assert "--standalone" in result["hint"]


def test_standalone_is_suggested_before_a_launch_on_the_default_port() -> None:
    """The plan has a warning, unless the command has a rendezvous."""
    assert "--standalone" in port_warning(["torchrun", "--nproc-per-node", "2", "train.py"])
    assert "--standalone" in port_warning(["python", "-m", "torch.distributed.run", "train.py"])
    assert port_warning([*TWO, "train.py"]) == ""
    assert port_warning(["torchrun", "--rdzv-endpoint=localhost:0", "train.py"]) == ""
    assert port_warning(["python", "train.py"]) == ""


def test_the_failure_of_the_last_of_several_starts_is_reported() -> None:
    """Reasons may differ between starts; lines before the rendezvous have no prefix."""
    agent = "E1125 10:42:38.174000 7800 torch/distributed/elastic/multiprocessing/api.py:1002]"
    lines = [
        "[rank1]: RuntimeError: the first time",
        f"{agent} failed (exitcode: 1) local_rank: 1 (pid: 1) of binary: python",
        "RuntimeError: the second time",
        f"{agent} failed (exitcode: 1) local_rank: 1 (pid: 2) of binary: python",
        "Root Cause (first observed failure):",
        "  rank      : 1 (local_rank: 1)",
        "  exitcode  : 1 (pid: 2)",
    ]
    message = "rank 1 failed first, exit code 1: RuntimeError: the second time"
    assert first_failure(lines) == message
    assert first_failure(["ValueError: no launcher"]) == ""
