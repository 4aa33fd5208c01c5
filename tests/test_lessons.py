"""The lessons: each holds here or cannot be tried, and each can say that it does not hold."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from conftest import call_in, once, run_in
from torch import nn

from xorbench.judge.lessons import judge
from xorbench.judge.verdicts import exit_code
from xorbench.lessons import evaluation, structure, training
from xorbench.lessons.finding import LessonFinding, time_ratio
from xorbench.lessons.networks import (
    HiddenInAList,
    HiddenInAModuleList,
    WithDropout,
    linear,
    simple,
)
from xorbench.lessons.registry import LESSONS
from xorbench.observe import loading
from xorbench.observe.records.lessons import LessonsInfo


class _Normalised(nn.Module):
    """A network whose answer to a point depends on the batch around it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return self.layer(points) - self.layer(points)[:1]


class _AlwaysRight(SimpleNamespace):
    def all_correct(self) -> int:
        return len(training.SEEDS)


def _forget_a_bit(state: dict[str, torch.Tensor]) -> bytes:
    from xorbench.workload.loop import save_state

    return save_state({name: tensor * 1.5 for name, tensor in state.items()})


def _zero(network: nn.Module) -> None:
    network.zero_grad()


INJECTED: dict[str, Callable[[], LessonFinding]] = {
    "plain list": lambda: structure.plain_list(HiddenInAModuleList),
    "containers": lambda: structure.containers([HiddenInAModuleList, HiddenInAList]),
    "printed": lambda: structure.printed(linear),
    "state_dict keys": lambda: structure.other_keys(simple),
    "state_dict": lambda: structure.saved_and_loaded(_forget_a_bit),
    "loss on logits": lambda: training.stable_loss(training.with_logits),
    "zero_grad": lambda: training.accumulate(_zero),
    "to(device)": lambda: training.moved_once("cpu"),
    "linear model": lambda: training.linear_fails(simple),
    "100%": lambda: training.chance(lambda _recipe, _seeds: _AlwaysRight()),
    "no_grad: memory": lambda: evaluation.no_grad_memory(nullcontext),
    "no_grad: time": lambda: evaluation.no_grad_time(_slow_guard),
    "train and eval": lambda: evaluation.modes(WithDropout),
    "drop_last": lambda: evaluation.even_batches(drop_last=False),
    "shuffle": lambda: evaluation.any_order(_Normalised),
    "pinned memory": lambda: evaluation.pinned_is_host_memory(
        "cpu", pin=torch.Tensor.clone, checked=iter([0, 8]).__next__
    ),
    "pinned copies": lambda: evaluation.pinned_pays("cpu", pin=_same),
}


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _slow_guard() -> Any:
    import time

    time.sleep(0.01)
    return torch.no_grad()


def test_every_lesson_has_its_contrary() -> None:
    """A row without a injected contrary is not trusted."""
    assert set(INJECTED) == set(LESSONS)


@pytest.mark.parametrize("name", INJECTED)
def test_a_injected_contrary_does_not_hold(name: str) -> None:
    """Each lesson's own measurement can say that its statement is wrong."""
    assert INJECTED[name]().answer == "does not hold"


def test_a_ratio_of_times_has_the_interval_of_its_median() -> None:
    """With a clock that goes twice as fast for one of them, the ratio is two, to the digit."""
    now = [0.0]

    def take(seconds: float) -> Callable[[], None]:
        return lambda: now.__setitem__(0, now[0] + seconds)

    ratio = time_ratio(take(2.0), take(1.0), clock=lambda: now[0])
    assert (ratio.median, ratio.low, ratio.high, ratio.pairs) == (2.0, 2.0, 2.0, 61)


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one real `lessons`."""

    def make(folder: Path) -> None:
        done = run_in(folder, "lessons", "--anonymous")
        assert done.returncode in (0, 1), done.stderr  # a timing may not hold on a busy machine
        assert "state_dict keys" in done.stdout

    return (once(tmp_path_factory, "lessons", make) / "results" / "latest").resolve()


def test_the_lessons_hold_on_this_machine(tried: Path) -> None:
    """Every statement that is not about time holds, or needs an accelerator."""
    found = {f.lesson: f.answer for f in loading.read_kind(tried, LessonsInfo).findings}
    assert list(found) == list(LESSONS)
    timed = {"no_grad: time", "pinned copies"}
    assert {answer for name, answer in found.items() if name not in timed} <= {
        "holds",
        "cannot be tried here",
    }
    if not torch.accelerator.is_available():
        assert found["pinned memory"] == "cannot be tried here"


def test_the_lessons_are_reported_again_from_their_files(tried: Path) -> None:
    """`report` reads the folder, and writes the page and the table."""
    (tried / "report.html").unlink()
    done = call_in(tried.parent.parent.parent, "report", "latest", "--json")
    assert done.returncode in (0, 1), done.stderr
    assert '"statement"' in done.stdout
    assert "a linear model cannot learn XOR" in (tried / "report.html").read_text()
    assert (tried / "lessons.csv").exists()


def test_a_lesson_that_does_not_hold_fails(tried: Path) -> None:
    """The exit code says so; one that could not be tried is neutral, a dead process is not."""
    info: LessonsInfo = loading.read_kind(tried, LessonsInfo)
    plain = info.findings[0]
    for answer, stopped, code in (
        ("holds", None, 0),
        ("does not hold", None, 1),
        ("cannot be tried here", None, 3),
        ("holds", "the process died", 1),
    ):
        finding = msgspec.structs.replace(plain, answer=answer)
        doctored = msgspec.structs.replace(info, findings=[finding], stopped=stopped)
        assert exit_code(judge(doctored)) == code


def test_lessons_cannot_be_resumed_as_a_run(tried: Path) -> None:
    """The folder says what it is."""
    done = call_in(tried.parent.parent.parent, "run", "--resume", "latest")
    assert done.returncode == 2
    assert "--resume: no run in" in done.stderr
