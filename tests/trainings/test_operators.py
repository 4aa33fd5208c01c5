"""`check --operators` and `canary --operators` of real trainings."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from accelerators import TRAIN, require, xorbench
from conftest import Completed, run_in

import xorbench as package
from xorbench.programs.questions.operators import of_models

EXAMPLES = Path(__file__).parents[2] / "examples"
LOW = """
import torch
torch.manual_seed(0)
layers = torch.nn.Embedding(8, 16), torch.nn.LayerNorm(16), torch.nn.Linear(16, 8)
model = torch.nn.Sequential(*layers).bfloat16()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model(torch.zeros(4, 256, dtype=torch.long)).sum().backward()
    optimizer.step()
"""
THREADS = """
import threading, torch
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def work():
    torch.ones(3).erfinv()
for _ in range(2):
    loss = model(torch.ones(2, 4)).sum()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    loss.backward()
    optimizer.step()
"""
POOL = """
import torch
from torch import nn
model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(18, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    optimizer.step()
"""
Run = Callable[..., Completed]


@pytest.fixture
def checked(tmp_path: Path) -> Run:
    """Run `check --operators` on a script in a folder of its own."""

    def check(script: str, *options: str) -> Completed:
        (tmp_path / "train.py").write_text(script)
        words = ("check", "--operators", *options, "--json", "--", sys.executable, "train.py")
        return run_in(tmp_path, *words)

    return check


def test_a_correct_training_passes(tmp_path: Path) -> None:
    """The example GPT in float32: no alarm, and nearly all calls are judged."""
    (tmp_path / "gpt.py").write_text((EXAMPLES / "gpt.py").read_text())
    words = ("check", "--operators", "--json", "--", sys.executable, "gpt.py", "--steps", "3")
    done = run_in(tmp_path, *words)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["outcome"]) == (0, "pass")
    assert answer["judged"] > 0.99
    assert len(answer["kinds"]) > 100


def test_defects_of_pytorch_are_found_in_a_bfloat16_training(checked: Run) -> None:
    """LayerNorm's bias gradient and the embedding's gradient; known defects may pass."""
    done = checked(LOW)
    answer = json.loads(done.stdout)
    wrong = {kind["operator"] for kind in answer["kinds"] if kind["result"] == "wrong"}
    assert done.returncode == 1
    assert wrong == {"aten.native_layer_norm_backward", "aten.embedding_dense_backward"}
    assert checked(LOW, "0", "--known-defects", "ok").returncode == 0


def test_operators_of_other_threads_are_judged(checked: Run) -> None:
    """A thread that starts within a step is part of it."""
    kinds = json.loads(checked(THREADS).stdout)["kinds"]
    assert "aten.erfinv" in {kind["operator"] for kind in kinds}


def test_the_recorder_does_not_see_the_gradients_of_references(checked: Run) -> None:
    """A reference that uses autograd is no second thread that trains."""
    answer = json.loads(checked(POOL).stdout)
    assert (answer["outcome"], answer["judged"], answer["notes"]) == ("pass", 1.0, [])


def test_a_faulty_kernel_of_an_accelerator_is_detected_and_named(tmp_path: Path) -> None:
    """The references are on the CPU; the simulated accelerator rounds `addmm` wrongly."""
    require()
    words = ("check", "--operators", "--json", "--", sys.executable, "-c", TRAIN)
    correct, faulty = tmp_path / "correct", tmp_path / "faulty"
    correct.mkdir()
    faulty.mkdir()
    done = xorbench(correct, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["judged"] == 1.0
    done = xorbench(faulty, *words, fault="round:addmm:64")
    kinds = json.loads(done.stdout)["kinds"]
    assert done.returncode == 1
    assert {k["operator"] for k in kinds if k["result"] == "wrong"} == {"aten.addmm"}


def test_the_canary_reports_known_defects_and_fails_only_if_strict(tmp_path: Path) -> None:
    """Its models have known defects in bfloat16."""
    done = run_in(tmp_path, "canary", "--operators", "--junit", "canary.xml")
    assert done.returncode == 0, done.stdout
    assert "known: pytorch#191763" in done.stdout
    assert "<testcase" in (tmp_path / "canary.xml").read_text()
    assert of_models("cpu", tmp_path, strict=True).known_defects == "fail"


def test_python_has_the_same_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`xorbench.check` with `operators`; the page has a row for each kind."""
    (tmp_path / "train.py").write_text(LOW)
    monkeypatch.chdir(tmp_path)
    result = package.check([sys.executable, "train.py"], operators=True)
    assert (result.outcome, bool(result)) == ("fail", False)
    assert "error / bound" in result.report.read_text()
