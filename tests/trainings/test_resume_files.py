"""`check --resume`: the files at the end, a call from Python, and several ranks."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import call_in

import xorbench

TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
TRAINING = """
import json, os, sys, torch
import torch.distributed as dist

rank = 0
if "RANK" in os.environ:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
start, best = 0, 1e9
if "--resume" in sys.argv:
    state = torch.load("last.pt")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    start = state["step"]
    os.path.exists("part.txt") and os.unlink("part.txt")
for step in range(start, 8):
    generator = torch.Generator().manual_seed(2 * step + rank)
    loss = model(torch.randn(4, 3, generator=generator)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    if dist.is_initialized():
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
    optimizer.step()
    if rank == 0 and step % 2:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "step": step + 1}, "new.pt")
        os.replace("new.pt", "last.pt")
    if rank == 0 and "best" in sys.argv and step < 7:
        metric = abs(step - 1)
        if metric < best:
            best = metric
            json.dump({"step": step}, open("best.json", "w"))
if rank == 0:
    open("part.txt", "w").write("whole" if "--resume" not in sys.argv else "after")
    os.unlink("part.txt")
    open("end.txt", "w").write("end")
if dist.is_initialized():
    dist.destroy_process_group()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the training."""
    (tmp_path / "train.py").write_text(TRAINING)
    return tmp_path


def checked(folder: Path, code: int, *options: str, words: str = "") -> dict[str, Any]:
    """The result of a check of the training across a kill after step 5."""
    script = [sys.executable, "train.py", *words.split()]
    kill = () if "--kill-in-save" in options else ("--kill-after", "5")
    resume = ("--resume", shlex.join([*script, "--resume"]))
    done = call_in(folder, "check", "--json", *options, *kill, *resume, "--", *script)
    assert done.returncode == code, (done.stdout, done.stderr)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_file_that_the_resumed_training_does_not_restore_differs(place: Path) -> None:
    """A detail of an exact resume, and a failure with `--files`; a removed file is not compared."""
    result = checked(place, 0, "--name", "kept", words="best")
    assert result["details"]["saved files"] == "2 files identical; best.json (step) differs"
    failed = checked(place, 1, "--files", words="best")
    assert (failed["component"], failed["outcome"]) == ("saved files", "fail")
    assert failed["sentence"].endswith("killed after 5 steps: best.json (step) differs")
    (folder,) = (place / "results" / "checks").glob("*-kept")
    again = call_in(place, "check", "--json", "--from", str(folder))
    assert json.loads(again.stdout)["details"] == result["details"]


@pytest.mark.variant
def test_python_kills_it_within_a_save(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keywords are those of the options."""
    monkeypatch.chdir(place)
    python = shlex.quote(sys.executable)
    answer = xorbench.check(
        f"{python} train.py", resume=f"{python} train.py --resume", kill_in_save=True, files=True
    )
    assert answer.outcome == "pass"
    assert "resume is exact after each of 2 kills" in answer.sentence


@pytest.mark.variant
def test_every_rank_resumes_after_a_kill_within_a_save(place: Path) -> None:
    """One rank saves and dies, and the launch is killed with it."""
    launch = [TORCHRUN, "--standalone", "--nproc-per-node", "2", "train.py"]
    resume = shlex.join([*launch, "--resume"])
    words = ("check", "--json", "--kill-in-save", "--resume", resume, "--", *launch)
    done = call_in(place, *words)
    result = json.loads(done.stdout)
    assert done.returncode == 0, result
    outcomes = [verdict["outcome"] for verdict in result["verdicts"]]
    assert outcomes == ["pass", "skipped", "skipped", "pass"]
