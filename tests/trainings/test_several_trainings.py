"""`check` of commands with several trainings: in a row, in threads, in folds, in a pipeline."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import call_in

TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
TRAINING = """
import sys, torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(6):
    model(torch.randn(8, 3)).square().mean().backward()
    optimizer.step()
"""

# Rank 1 waits for rank 0 in the step after the last one, before it calls its module.
PIPELINE = """
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(rank)
stage = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(stage.parameters(), lr=0.1)
for step in range(6):
    optimizer.zero_grad()
    if rank == 0:
        output, gradient = stage(torch.randn(2, 4)), torch.empty(2, 4)
        dist.send(output.detach(), 1)
        dist.recv(gradient, 1)
        output.backward(gradient)
    else:
        received = torch.empty(2, 4)
        dist.recv(received, 0)
        received.requires_grad_()
        stage(received).square().mean().backward()
        dist.send(received.grad, 0)
    optimizer.step()
dist.destroy_process_group()
"""

# The sleeps decide which process gets the third fold.
POOL = """
import multiprocessing, os, time, torch

def fold(seed):
    time.sleep(4 if str(seed + 1) == os.environ["XORBENCH_RUN"] else 0)
    if SEEDED:
        torch.manual_seed(seed)
    else:
        torch.seed()
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3 + seed):
        model(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(fold, range(3), chunksize=1)
"""


def checked(folder: Path, code: int, *arguments: str) -> dict[str, Any]:
    """The result of a check with this exit code."""
    done = call_in(folder, "check", "--json", *arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_steps_counts_for_each_training_of_a_command(tmp_path: Path) -> None:
    """The second training also runs; its different random numbers are found."""
    python = sys.executable
    second = TRAINING.replace("torch.manual_seed(0)", "torch.seed()")
    (tmp_path / "a.py").write_text(TRAINING)
    (tmp_path / "b.py").write_text(second)
    (tmp_path / "run.sh").write_text(f"{python} a.py --out $(date +%s%N)\n{python} b.py\n")
    result = checked(tmp_path, 1, "--steps", "2", "--", "bash", "run.sh")
    assert "of b.py, in parameter" in result["sentence"]
    assert result["notes"][0].startswith("the command lines of run 1 and run 2 differ: ")


def test_the_answer_lists_the_trainings(tmp_path: Path) -> None:
    """The last command fails, since the first has not saved its model: a note."""
    python = sys.executable
    (tmp_path / "a.py").write_text(TRAINING + "open('saved', 'w').close()\n")
    lines = [f"{python} a.py", f"{python} a.py --again", "cat saved"]
    (tmp_path / "run.sh").write_text("\n".join(lines))
    result = checked(tmp_path, 0, "--steps", "2", "--", "bash", "run.sh")
    assert result["details"]["trainings"] == "1: a.py, 2 steps; 2: a.py --again, 2 steps"
    assert "run 1 ended with exit code 1 after --steps had ended a training" in result["notes"][0]


def test_a_training_whose_weights_stay_is_one_training(tmp_path: Path) -> None:
    """The weights of each step are those of the first one, and nothing begins again."""
    still = TRAINING.replace("lr=0.1", "lr=0.0")
    (tmp_path / "still.py").write_text(still)
    result = checked(tmp_path, 0, "--", sys.executable, "still.py")
    assert "trainings" not in result["details"]
    assert result["sentence"] == "bitwise identical in 2 runs: 6 steps"


@pytest.mark.variant
def test_a_rank_that_waits_for_a_stopped_one_has_made_its_steps(tmp_path: Path) -> None:
    """Two pipelines in a row end after their steps, with complete records."""
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    launch = f"{TORCHRUN} --standalone --nproc-per-node 2 pipeline.py"
    (tmp_path / "run.sh").write_text(f"{launch}\n{launch} --second\n")
    result = checked(tmp_path, 0, "--steps", "2", "--", "bash", "run.sh")
    assert result["sentence"] == "bitwise identical in 2 runs: 2 steps in each of 4 processes"
    assert "2: pipeline.py --second, 2 steps" in result["details"]["trainings"]


@pytest.mark.parametrize(
    ("seeded", "code"), [(True, 0), pytest.param(False, 1, marks=pytest.mark.variant)]
)
def test_the_folds_of_a_pool_are_compared_in_any_order(
    tmp_path: Path, seeded: bool, code: int
) -> None:
    """A different process trains the third fold in each run; unseeded folds differ."""
    (tmp_path / "folds.py").write_text(POOL.replace("SEEDED", str(seeded)))
    result = checked(tmp_path, code, "--", sys.executable, "folds.py")
    if seeded:
        assert result["sentence"] == (
            "bitwise identical in 2 runs: up to 5 steps in each of 3 processes"
        )
    else:
        assert "of the pool), in parameter" in result["sentence"]


# The beginning of a training in a thread, whose steps follow.
THREAD = """
import threading, time, torch
def train(seed):
    generator = torch.Generator().manual_seed(seed)
    model = torch.nn.Linear(3, 1)
    torch.nn.init.constant_(model.weight, seed)
    torch.nn.init.constant_(model.bias, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""


def test_steps_ends_every_thread_after_the_same_number(tmp_path: Path) -> None:
    """A thread that has made its steps waits for the others, and each record is complete."""
    (tmp_path / "threads.py").write_text(
        f"""{THREAD}\
    for step in range(8):
        together.wait()
        model(torch.randn(8, 3, generator=generator)).square().mean().backward()
        time.sleep(0.1 * seed)
        optimizer.step()
together = threading.Barrier(2)
threads = [threading.Thread(target=train, args=(seed,)) for seed in (1, 2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    )
    result = checked(tmp_path, 0, "--steps", "5", "--", sys.executable, "threads.py")
    assert result["sentence"] == "bitwise identical in 2 runs: 5 steps in each of 2 processes"


FOLLOWING = f"""{THREAD}\
    for step in range(2 + seed):
        model(torch.randn(8, 3, generator=generator)).square().mean().backward()
        optimizer.step()
for seed in (0, 1):
    thread = threading.Thread(target=train, args=(seed,))
    thread.start()
    thread.join()
"""


def test_threads_that_train_one_after_the_other_are_separate_trainings(tmp_path: Path) -> None:
    """Each has a record, although the second thread may have the id of the first."""
    (tmp_path / "following.py").write_text(FOLLOWING)
    result = checked(tmp_path, 0, "--", sys.executable, "following.py")
    assert result["sentence"] == "bitwise identical in 2 runs: up to 3 steps in each of 2 processes"
    note = "several threads of the program train; each thread has its own record"
    assert result["notes"] == [note]
