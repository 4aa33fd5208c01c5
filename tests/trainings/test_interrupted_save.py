"""A run that dies within a save, and the files that it leaves, for each way of saving."""

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.distributed.checkpoint import CheckpointException

from xorbench.programs.command_run import CommandRun, execute
from xorbench.records.ended import Ended

TRAINING = """
import os, torch, torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
torch.manual_seed(0)
model = torch.nn.Linear(4, 64)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def in_place(step):
    torch.save({{"step": step, **model.state_dict()}}, "last.pt")

def open_file(step):
    with open("last.pt", "wb") as file:
        torch.save({{"step": step, **model.state_dict()}}, file)

def renamed(step):
    torch.save({{"step": step, **model.state_dict()}}, "tmp.pt")
    os.replace("tmp.pt", "last.pt")

def two_files(step):
    torch.save({{"step": step, **model.state_dict()}}, "model.pt")
    torch.save({{"step": step, **optimizer.state_dict()}}, "optimizer.pt")

def safetensors(step):
    save_file({{"step": torch.tensor(step), **model.state_dict()}}, "model.safetensors")

def folder(step):
    dcp.save({{"model": model.state_dict()}}, checkpoint_id="checkpoint")

for step in range(3):
    model(torch.randn(2, 4)).square().mean().backward()
    optimizer.step()
    {save}(step)
print("finished")
"""
SAVES = ("in_place", "open_file", "renamed", "two_files", "safetensors", "folder")


def died(folder: Path, save: str, where: str) -> Ended:
    """The run of the training in the folder `place`, which dies in its second save."""
    place = folder / "place"
    place.mkdir()
    (place / "train.py").write_text(TRAINING.format(save=save))
    run = CommandRun((sys.executable, "train.py"), place, None, 120)
    return execute(run, 1, place, folder / "output" / "run", {"die_in_save": where})


def step_of(path: Path) -> int:
    """The step at which a file of `torch.save` was saved."""
    return int(torch.load(path)["step"])


@pytest.mark.parametrize("save", ["in_place", "open_file"])
def test_a_save_in_place_leaves_a_part_of_the_only_checkpoint(tmp_path: Path, save: str) -> None:
    """The older one is gone, and what there is cannot be read."""
    run = died(tmp_path, save, "part")
    assert run.how == "stopped"
    assert [line.file.name for line in run.events("died_in_save")] == ["last.pt"]
    with pytest.raises(RuntimeError, match="PytorchStreamReader"):
        torch.load(tmp_path / "place" / "last.pt")


def test_a_save_that_is_renamed_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    """Half of the new one is in another file."""
    run = died(tmp_path, "renamed", "part")
    assert [line.file.name for line in run.events("died_in_save")] == ["tmp.pt"]
    assert step_of(tmp_path / "place" / "last.pt") == 0


def test_before_the_rename_both_checkpoints_are_whole(tmp_path: Path) -> None:
    """The older one under its name, the new one under that of the temporary file."""
    run = died(tmp_path, "renamed", "rename")
    assert [line.file.name for line in run.events("died_in_save")] == ["last.pt"]
    files = [tmp_path / "place" / name for name in ("last.pt", "tmp.pt")]
    assert [step_of(file) for file in files] == [0, 1]


def test_between_two_files_one_of_them_is_older(tmp_path: Path) -> None:
    """The first file of the second checkpoint, and the second one of the first."""
    run = died(tmp_path, "two_files", "between")
    assert [line.file.name for line in run.events("died_in_save")] == ["optimizer.pt"]
    files = [tmp_path / "place" / name for name in ("model.pt", "optimizer.pt")]
    assert [step_of(file) for file in files] == [1, 0]


def test_a_part_of_safetensors_cannot_be_read(tmp_path: Path) -> None:
    """It is cut by half, as by a death while it was written."""
    assert died(tmp_path, "safetensors", "part").how == "stopped"
    with pytest.raises(SafetensorError):
        load_file(tmp_path / "place" / "model.safetensors")


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_distributed_checkpoint_keeps_its_older_metadata(tmp_path: Path) -> None:
    """They are written last, so a death leaves them with a part of the new data."""
    run = died(tmp_path, "folder", "part")
    folder = tmp_path / "place" / "checkpoint"
    assert [line.file.name for line in run.events("died_in_save")] == ["checkpoint"]
    assert sorted(path.name for path in folder.iterdir()) == [".metadata", "__0_0.distcp"]
    weights = {"model": {"weight": torch.zeros(64, 4), "bias": torch.zeros(64)}}
    with pytest.raises(CheckpointException):
        dcp.load(weights, checkpoint_id=folder)


@pytest.mark.parametrize(("save", "where"), [("in_place", "between"), ("in_place", "rename")])
def test_a_training_without_such_a_place_ends_as_it_does(
    tmp_path: Path, save: str, where: str
) -> None:
    """A checkpoint of one file, and one that is not renamed."""
    run = died(tmp_path, save, where)
    assert (run.how, run.code, run.events("died_in_save")) == ("ended", 0, [])
    assert step_of(tmp_path / "place" / "last.pt") == 2
