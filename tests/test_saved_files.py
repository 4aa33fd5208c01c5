"""The content of saved files: which parts differ, and that nothing of them is executed."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from xorbench.programs.saved_files import (
    LARGEST_TOTAL,
    FileComparison,
    compare_files,
    read_files,
    saved_files,
    write_files,
)

Write = Callable[[Path, int], None]  # writes a file; the number is 0 or 1, for different content


def trained(value: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model and its optimizer after a step; a weight and a state depend on the value."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 1))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        model[1].weight.add_(value)
    optimizer.state[model[0].bias]["exp_avg"].add_(value)
    return model, optimizer


def weights(path: Path, value: int) -> None:
    """A state_dict of `torch.save`."""
    torch.save(trained(value)[0].state_dict(), path)


def checkpoint(path: Path, value: int) -> None:
    """Model, optimizer and epoch, by `torch.save`."""
    model, optimizer = trained(value)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)


def number(path: Path, value: int) -> None:
    """A checkpoint in which only a number differs."""
    torch.save({"model": trained(0)[0].state_dict(), "epoch": value}, path)


def safetensors(path: Path, value: int) -> None:
    """Two tensors, of which one differs."""
    save_file({"same": torch.ones(2), "other": torch.full((2,), float(value))}, path)


def arrays(path: Path, value: int) -> None:
    """Two arrays of NumPy, of which one differs."""
    np.savez(path, same=np.ones(2), other=np.full(2, value))


def log(path: Path, value: int) -> None:
    """A text with times and paths; the loss in its second line differs."""
    path.write_text(
        f"2026-01-0{value + 1} 10:00:0{value} saved to /tmp/run-{value}/out in {value}.5 s\n"
        f"loss 0.{value}\n"
    )


def state(path: Path, value: int) -> None:
    """A JSON object with a run time; a value in a list differs."""
    path.write_text(json.dumps({"log": [{"loss": 1}, {"loss": value}], "train_runtime": value}))


def raw(path: Path, value: int) -> None:
    """Bytes of no known format."""
    path.write_bytes(bytes([0, 255, value]))


KINDS: dict[str, tuple[Write, str]] = {
    "weights.pt": (weights, " (1.weight)"),
    "checkpoint.pt": (checkpoint, " (1.weight, exp_avg (data/8))"),
    "number.pt": (number, " (data.pkl)"),
    "model.safetensors": (safetensors, " (other)"),
    "arrays.npz": (arrays, " (other.npy)"),
    "log.txt": (log, " (line 2)"),
    "state.json": (state, " (log[1].loss)"),
    "raw.bin": (raw, ""),
}


def compared(folder: Path, name: str, write: Write, other: int) -> FileComparison:
    """A file with the content 0 compared with one of the same name."""
    files = []
    for side, value in (("a", 0), ("b", other)):
        (folder / side).mkdir()
        write(folder / side / name, value)
        files.append(read_files(folder / side, [name]))
    return compare_files(*files)


@pytest.mark.parametrize("name", KINDS)
def test_equal_content_is_identical(tmp_path: Path, name: str) -> None:
    """Written twice, in two folders."""
    assert compared(tmp_path, name, KINDS[name][0], 0) == FileComparison((name,))


@pytest.mark.parametrize("name", KINDS)
def test_the_part_that_differs_is_named(tmp_path: Path, name: str) -> None:
    """A tensor, a member, a line or a key; times and paths are no difference."""
    write, text = KINDS[name]
    assert compared(tmp_path, name, write, 1).text == f"{name}{text} differs"


def test_times_and_paths_alone_are_no_difference(tmp_path: Path) -> None:
    """A text that differs in nothing else counts as identical."""

    def write(path: Path, value: int) -> None:
        path.write_text(f"2026-01-0{value + 1}T10:00:0{value}Z /a/b{value} took {value}.25 s\n")

    assert compared(tmp_path, "log.txt", write, 1).identical == ("log.txt",)


def test_the_name_of_the_root_of_an_archive_does_not_count(tmp_path: Path) -> None:
    """`torch.save` calls it by the name of the file, which may have been another first."""
    weights(tmp_path / "a.tmp.pt", 0)
    weights(tmp_path / "w.pt", 0)
    first = read_files(tmp_path, ["w.pt"])
    (tmp_path / "a.tmp.pt").replace(tmp_path / "w.pt")
    assert compare_files(first, read_files(tmp_path, ["w.pt"])).identical == ("w.pt",)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    """A pickle that would create a file when it is loaded is read, and creates none."""

    class Hostile:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    data = pickle.dumps(Hostile())
    (tmp_path / "plain.pkl").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "archive.pt", "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", b"0")
    files = read_files(tmp_path, ["plain.pkl", "archive.pt"])
    assert [bool(file.digest) for file in files] == [True, True]
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_file_that_is_cut_off_is_compared_by_its_bytes(tmp_path: Path, name: str) -> None:
    """A damaged archive has no parts, and is read without an error."""
    KINDS[name][0](tmp_path / name, 0)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    (file,) = read_files(tmp_path, [name])
    assert file.digest
    assert compare_files([file], [file]).identical == (name,)


def test_a_file_of_one_run_only_is_not_compared(tmp_path: Path) -> None:
    """Its name may hold a time, or a process id."""
    raw(tmp_path / "events.1", 0)
    assert compare_files(read_files(tmp_path, ["events.1"]), []) == FileComparison()


def test_files_beyond_the_limit_are_not_read(tmp_path: Path) -> None:
    """They are named."""
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(LARGEST_TOTAL + 1)  # sparse
    files = read_files(tmp_path, ["large.bin"])
    assert compare_files(files, files).unread == ("large.bin",)


def test_digests_are_stored_with_the_records_of_a_run(tmp_path: Path) -> None:
    """So that a stored check can be evaluated again."""
    checkpoint(tmp_path / "a.pt", 0)
    files = read_files(tmp_path, ["a.pt"])
    write_files(tmp_path, files)
    assert saved_files(tmp_path) == files
    assert saved_files(tmp_path / "none") == []
