"""Paths that lead out of the folder of a training are found in its text, and linked."""

from pathlib import Path

import pytest
from conftest import run_in

from xorbench.programs.outside_paths import outside_paths

READS = """
import pathlib, torch
torch.manual_seed(0)
rows = pathlib.Path("../data/rows.txt").read_text().split()
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for row in rows:
    optimizer.zero_grad()
    model(torch.tensor([[float(row)]])).square().sum().backward()
    optimizer.step()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder beside its data."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.txt").write_text("1 2 3")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "train.py").write_text(READS)
    return tmp_path / "work"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("train.py", 'open("../data/rows.txt")', {"../data": "train.py"}),
        ("run.sh", "python train.py --data=../data/x", {"../data": "run.sh"}),
        ("config.yaml", "data: ../data", {"../data": "config.yaml"}),
        ("train.py", 'open("../missing")', {}),
        ("train.py", 'sys.path.append("..")', {}),
        ("train.py", 'open("../work/train.py")', {}),
        ("notes.md", "see ../data", {}),
    ],
)
def test_a_path_above_the_folder_is_found_in_its_text(
    folder: Path, name: str, text: str, expected: dict[str, str]
) -> None:
    """If it exists, and is neither the folder nor above it."""
    (folder / name).write_text(text)
    assert outside_paths(folder, ["python", "train.py"], [name]) == expected


def test_a_path_is_found_in_the_command(folder: Path) -> None:
    """Before any file."""
    words = ["python", "train.py", "--data", "../data/rows.txt"]
    assert outside_paths(folder, words, ["train.py"]) == {"../data": "the command"}


def test_a_training_reads_its_data_from_a_copy(folder: Path) -> None:
    """Each run is in a copy, above which there is a link to the data."""
    done = run_in(folder, "check", "--", "python", "train.py")
    assert done.stdout.startswith("Bitwise identical in 2 runs: 3 steps."), done.stdout
    planned = run_in(folder, "check", "--dry-run", "--", "python", "train.py")
    assert "linked, not copied: ../data -> " in planned.stdout + planned.stderr


def test_a_path_two_folders_above_can_be_linked(folder: Path) -> None:
    """By the option, which takes any relative path."""
    inner = folder / "inner"
    inner.mkdir()
    text = READS.replace('"../data/rows.txt"', '"/".join(["..", "..", "data", "rows.txt"])')
    (inner / "train.py").write_text(text)
    failed = run_in(inner, "check", "--", "python", "train.py")
    assert failed.returncode == 1
    done = run_in(inner, "check", "--link", "../../data", "--", "python", "train.py")
    assert done.stdout.startswith("Bitwise identical in 2 runs: 3 steps."), done.stdout


@pytest.mark.parametrize(
    ("path", "message"),
    [("..", "'..' contains"), ("/", "'/' is not within"), ("../no", "no '../no'")],
)
def test_a_link_that_cannot_be_made_is_one_line(folder: Path, path: str, message: str) -> None:
    """A folder above, an absolute path, a missing one."""
    done = run_in(folder, "check", "--link", path, "--", "python", "train.py")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
