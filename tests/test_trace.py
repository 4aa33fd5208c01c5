"""Traces are bitwise identical to untraced trainings, and locate every injected fault."""

import sys
from collections import Counter
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import msgspec
import pytest
from conftest import run_in

from xorbench.records import trace as traces
from xorbench.records.trace import EpochTrace
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.faults import DAMAGES, FAULTS, read_fault
from xorbench.xor.matrix.faults import PLACES as TENSORS
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.trace.divergence import first_place
from xorbench.xor.training.faults import inject
from xorbench.xor.training.trace import Traced
from xorbench.xor.training.training import Training

EXAMPLE = Path(__file__).parents[1] / "examples" / "xor.py"
RECIPE = Recipe(epochs=2, train_size=640)
MOMENT = "epoch=1,step=2,element=1,bit=27"

# The first difference of each fault at MOMENT; tensor faults are named for their tensor.
PLACES = {
    "weight": (1, 2, "parameter layer1.weight"),
    "gradient": (1, 2, "gradient layer1.weight"),
    "activation": (1, 2, "the output of module act_fn Tanh"),
    "batch": (1, 2, "the batch (input [0] of SimpleClassifier, call 0)"),
}
DAMAGING = [f"{damage}-{place}" for place in TENSORS for damage in DAMAGES]
SEEN = {
    **{name: PLACES[name.split("-")[1]] for name in DAMAGING if not name.endswith("data")},
    "skip-batch": (1, 2, "the order"),
    "repeat-batch": (1, 3, "the order"),
    "swap-batches": (1, 2, "the order"),
    "flip-label": (1, 2, "the labels"),
    "keep-gradients": (1, 2, "gradient layer1.weight"),
    "other-lr": (1, 2, "the hyperparameters of optimizer 0 (SGD)"),
    "draw-extra": (1, 0, "the order"),
}


@cache
def traced(*faults: str) -> list[EpochTrace]:
    """Every epoch of a traced training."""
    training = Traced(Case(), RECIPE, [read_fault(fault) for fault in faults])
    return [epoch_trace(training, range(1, 3)) for _ in range(RECIPE.epochs)]


def epoch_trace(traced: Traced, valued: range = range(0)) -> EpochTrace:
    """The next epoch of a traced training, as read from a process."""
    recorded = asdict(traced.record(valued))
    return msgspec.convert({"epoch": traced.training.epoch - 1, **recorded}, EpochTrace)


def epoch_digests(case: Case = Case(), *faults: str) -> list[str]:  # noqa: B008 - frozen
    """The epoch digests of the same training untraced."""
    injected = [read_fault(fault) for fault in faults]
    training = Training(case, RECIPE, alter=partial(inject, faults=injected))
    return [training.step().digest for _ in range(RECIPE.epochs)]


def first_seen(*faults: str) -> tuple[int, int, str | None] | None:
    """Epoch, step and tensor at which a faulty trace first differs from the clean one."""
    for clean, faulty in zip(traced(), traced(*faults), strict=True):
        first = first_place(clean, faulty)
        if first is not None:
            return first[0].epoch, first[0].step, first[0].tensor
    return None


def test_a_case_and_a_script_of_the_same_training_have_equal_digests(tmp_path: Path) -> None:
    """All common events of a case's trace and of examples/xor.py as a program are equal."""
    words = [sys.executable, str(EXAMPLE), "--epochs", "1", "--device", "cpu"]
    done = run_in(tmp_path, "trace", "-o", "x.trace", "--detail", "0-18", "--", *words)
    assert done.returncode == 0, done.stderr
    steps = epoch_trace(Traced(Case(), Recipe(epochs=1))).steps
    script = list(traces.opened(tmp_path / "x.trace").steps())
    assert len(steps) == len(script) == 19
    kinds = Counter[str]()
    for pair in zip(steps, script, strict=True):
        ours, theirs = (
            {(e.kind, e.identity, e.more.name): e.digest for e in s.events} for s in pair
        )
        kinds.update(kind for kind, _, _ in ours.keys() & theirs.keys())
        assert [key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]] == []
    per_step = {"batch": 1, "output": 4, "loss": 1, "gradient": 4, "parameter": 4}
    assert {kind: kinds[kind] for kind in per_step} == {k: 19 * n for k, n in per_step.items()}


@pytest.mark.parametrize("processes", [0, 2])
def test_a_traced_training_is_bitwise_identical_to_the_untraced_one(processes: int) -> None:
    """Recording does not change the result, with and without loader workers."""
    training, case = Traced(Case(num_workers=processes), RECIPE), Case(num_workers=processes)
    assert [training.record().digest for _ in range(2)] == epoch_digests(case)


def test_every_step_holds_a_digest_of_every_tensor() -> None:
    """These are order, weights, inputs, layers, labels, loss, gradients and new weights."""
    epochs = traced()
    seen = [[event.kind for event in step.events] for epoch in epochs for step in epoch.steps]
    weights = RECIPE.hidden and 4
    # the first step of all meets the model after its order
    expected = ["data", *["parameter"] * weights, "call", "batch", *["output"] * 4]
    expected += ["data", "loss", "hyperparameters", *["gradient"] * weights]
    assert seen[1] == [
        *["parameter"] * weights,
        "data",
        *expected[5:],
        *["new parameter"] * weights,
    ]
    assert all(Counter(kinds) == Counter(seen[1]) for kinds in seen)
    assert [len(epoch.steps) for epoch in epochs] == [5, 5]


def test_values_are_recorded_for_the_requested_steps() -> None:
    """Steps 1 and 2 of the epoch have all values."""
    steps = traced()[0].steps
    kept = [all(e.more.hex for e in step.events if e.more.dtype) for step in steps]
    assert kept == [False, True, True, False, False]
    batch = next(event for event in steps[1].events if event.kind == "batch")
    assert (batch.more.shape, batch.more.dtype) == ([128, 2], "float32")


@pytest.mark.parametrize("name", SEEN)
def test_a_fault_is_located_where_it_was_injected(name: str) -> None:
    """The first differing epoch, step and tensor are the injected ones."""
    moment = MOMENT.replace("bit=27", "bit=30") if name.startswith("stuck") else MOMENT
    assert first_seen(f"{name}:{moment}") == SEEN[name]


@pytest.mark.parametrize("name", [name for name in DAMAGING if name.endswith("data")])
def test_damaged_data_change_the_digest_of_the_inputs(name: str) -> None:
    """The damage precedes training."""
    fault = read_fault(f"{name}:element=1,bit=30")
    clean = Training(Case(), RECIPE)
    faulty = Training(Case(), RECIPE, alter=partial(inject, faults=[fault]))
    assert clean.inputs_sha256() != faulty.inputs_sha256()


def test_every_fault_that_changes_the_result_is_tested() -> None:
    """Only faults of processes, time or settings are excluded."""
    others = {"crash", "hang", "delay", "grow", "pin-draws", "drop-ignored", "worker-noise"}
    others |= {
        "slow-loader",
        "slow-optimizer",
        "unpinned",
        "race",
        "slow-clock",
        "stopped-clock",
        "backward-clock",
    }
    others |= {"reload-flip", *(name for name in FAULTS if name.endswith("-data"))}
    assert set(SEEN) | others == {f.name for f in FAULTS.values() if f.kind == "training"}
