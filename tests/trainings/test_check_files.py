"""`check` of trainings that save files, read files elsewhere, or use no optimizer of PyTorch."""

from pathlib import Path

import pytest
from conftest import run_in

import xorbench

TRAINING = """
import json, sys, time, torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    model(torch.randn(4, 3)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
weights = model.state_dict()
torch.save(weights, "final.pt")
if "noise" in sys.argv:
    generator = torch.Generator()
    generator.seed()
    weights["bias"] = weights["bias"] + torch.rand(1, generator=generator)
torch.save({"model": weights}, "best.pt")
json.dump({"steps": 3, "time": time.time()}, open("log.json", "w"))
"""
BY_HAND = """
import torch
torch.manual_seed(0)
weight = torch.randn(3, 1, requires_grad=True)
for step in range(4):
    (torch.randn(4, 3) @ weight).square().mean().backward()
    weight.data -= 0.1 * weight.grad
    weight.grad = None
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the training."""
    (tmp_path / "train.py").write_text(TRAINING)
    return tmp_path


def test_files_are_compared_by_content(place: Path) -> None:
    """Three files are identical, although one holds the time."""
    done = run_in(place, "check", "--files", "--", "python", "train.py")
    assert done.returncode == 0, done.stdout
    assert "saved files  3 files identical" in done.stdout


def test_a_different_file_fails_on_request(place: Path) -> None:
    """Without `--files` it is a detail of a training that is identical; both name the tensor."""
    command = ("--", "python", "train.py", "noise")
    done = run_in(place, "check", "--name", "kept", *command)
    assert done.returncode == 0
    assert "2 files identical; best.pt (bias) differs" in done.stdout
    failed = run_in(place, "check", "--files", *command)
    assert failed.returncode == 1
    assert failed.stdout.startswith("Not identical: best.pt (bias) differs.\n")


def test_stored_files_are_judged_again(place: Path) -> None:
    """The records of a check keep the digests of its files."""
    run_in(place, "check", "--files", "--name", "kept", "--", "python", "train.py", "noise")
    (folder,) = (place / "results" / "checks").glob("*-kept")
    again = run_in(place, "check", "--from", str(folder))
    assert again.returncode == 1
    assert "best.pt (bias) differs" in again.stdout


def test_python_compares_files_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keyword is that of the option."""
    monkeypatch.chdir(place)
    assert not xorbench.check("python train.py noise", files=True)
    assert xorbench.check("python train.py noise")


def test_a_detailed_record_keeps_only_the_tensor_that_differs(tmp_path: Path) -> None:
    """Its elements are in the answer, also in that of the stored records; the rest is removed."""
    (tmp_path / "train.py").write_text(TRAINING.replace("torch.manual_seed(0)", ""))
    done = run_in(tmp_path, "check", "--name", "kept", "--", "python", "train.py")
    assert done.returncode == 1
    (folder,) = (tmp_path / "results" / "checks").glob("*-kept")
    kept = [path.stat() for path in folder.rglob("*.values")]
    assert len(kept) == 2  # of a run of the pair each
    assert all(status.st_blocks * 512 <= 8192 for status in kept)
    again = run_in(tmp_path, "check", "--from", str(folder))
    elements = [line for line in done.stdout.splitlines() if line.startswith("  elements")]
    assert elements
    assert elements[0] in again.stdout


def test_a_training_without_torch_optim_is_compared(tmp_path: Path) -> None:
    """The answer describes how its steps end."""
    (tmp_path / "train.py").write_text(BY_HAND)
    done = run_in(tmp_path, "check", "--", "python", "train.py")
    assert done.stdout.startswith("Bitwise identical in 2 runs: 4 steps.\n")
    assert "4 steps without torch.optim: a step ends when the weights have changed" in done.stdout
