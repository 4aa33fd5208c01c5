"""Trainings that do not take turns, and the reason."""

import sys
from pathlib import Path

import pytest

from xorbench.programs import pairs, turns
from xorbench.programs.command_run import CommandRun
from xorbench.programs.paired_speed import why_off
from xorbench.programs.pairs import PairSide, make_pair
from xorbench.programs.request import CommandRequest
from xorbench.programs.run_maker import RunMaker

STEP = """
import torch
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(9):
    model(torch.ones(8, 3)).mean().backward()
    optimizer.step()
"""


def paired(folder: Path) -> pairs.Pair:
    """A pair of processes of one small training."""
    run = CommandRun((sys.executable, "-c", STEP), folder, None, 60.0)
    maker = RunMaker("check", {}, folder, lambda _suffix="": folder, lambda _line: None)
    sides = {name: PairSide("B", 1, f"run-{name}", name) for name in "AB"}
    return make_pair(maker, {"B": run}, sides, skip=1, seed=0)


def test_a_file_system_without_fifos_has_no_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process is started."""

    def refused(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(turns.os, "mkfifo", refused)
    pair = paired(tmp_path)
    assert pair.turns.no_pair == "the file system has no FIFOs: operation not permitted"
    assert pair.ends == {}


def test_a_training_that_fills_the_memory_is_not_started_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process is measured after its first steps."""
    import psutil

    memory = psutil.virtual_memory()._replace(available=2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    pair = paired(tmp_path)
    assert "1 MiB are available for a second process" in pair.turns.no_pair
    assert list(pair.ends) == ["A"]
    assert pair.ends["A"].how == "stopped"


def test_a_port_and_a_folder_that_both_would_use_prevent_turns() -> None:
    """Torchrun's default port, and `--in-place`."""
    ranks = CommandRun(("torchrun", "train.py"), Path(), None, 1.0)
    assert "port 29500" in why_off("auto", CommandRequest(), {"B": ranks})
    assert "same folder" in why_off("auto", CommandRequest(in_place=True), {})
    assert why_off("auto", CommandRequest(), {}) == ""
