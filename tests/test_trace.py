"""Traces: the bits of the untraced training, and every injected fault at the injected place."""

from functools import cache, partial

import pytest

from xorbench.plan.case import Case
from xorbench.plan.faults import TENSOR_FAULTS, TRAINING_FAULTS, read_fault
from xorbench.plan.recipe import Recipe
from xorbench.workload.faults import inject
from xorbench.workload.loop import Training
from xorbench.workload.trace import Traced, TracedEpoch

RECIPE = Recipe(epochs=2, train_size=640)
MOMENT = "epoch=1,step=2,element=1,bit=27"

# Where each fault of MOMENT is first seen; those of the tensors are named for their place.
PLACES = {
    "weight": (1, 2, "layer1.weight"),
    "gradient": (1, 2, "grad layer1.weight"),
    "activation": (1, 2, "hidden"),
    "batch": (1, 2, "inputs"),
}
SEEN = {
    **{name: PLACES[name.split("-")[1]] for name in TENSOR_FAULTS if not name.endswith("data")},
    "skip-batch": (1, 2, "order"),
    "repeat-batch": (1, 3, "order"),
    "swap-batches": (1, 2, "order"),
    "flip-label": (1, 2, "labels"),
    "keep-gradients": (1, 2, "grad layer2.bias"),
    "other-lr": (1, 2, "layer1.weight"),
    "draw-extra": (1, 0, "order"),
}


@cache
def traced(*faults: str) -> tuple[list[TracedEpoch], list[str]]:
    """Every epoch of a traced training, and the names of its tensors."""
    one = Traced(Case(), RECIPE, [read_fault(fault) for fault in faults])
    return [one.record(range(1, 3)) for _ in range(RECIPE.epochs)], one.tensors


def epoch_digests(case: Case = Case(), *faults: str) -> list[str]:  # noqa: B008 - frozen
    """The epoch digests of the same training untraced."""
    injected = [read_fault(fault) for fault in faults]
    training = Training(case, RECIPE, alter=partial(inject, faults=injected))
    return [training.step().digest for _ in range(RECIPE.epochs)]


def first_seen(*faults: str) -> tuple[int, int, str] | None:
    """Epoch, step and tensor at which a faulty trace first differs from the clean one."""
    clean, names = traced()
    faulty, _ = traced(*faults)
    return next(
        (
            (epoch, step, names[at])
            for epoch, (one, other) in enumerate(zip(clean, faulty, strict=True))
            for step, (a, b) in enumerate(zip(one.steps, other.steps, strict=False))
            for at in range(len(names))
            if a[at] != b[at]
        ),
        None,
    )


@pytest.mark.parametrize("processes", [0, 2])
def test_a_trace_has_the_bits_of_the_untraced_training(processes: int) -> None:
    """Listening moves nothing, whoever fetches."""
    one = Traced(Case(num_workers=processes), RECIPE)
    assert [one.record().digest for _ in range(2)] == epoch_digests(Case(num_workers=processes))


def test_every_step_holds_a_digest_of_every_tensor() -> None:
    """Order, inputs, labels, hidden, logits, loss, each gradient, each weight, in that order."""
    epochs, names = traced()
    assert names[:6] == ["order", "inputs", "labels", "hidden", "logits", "loss"]
    assert names[6:] == [
        "grad layer2.bias", "grad layer2.weight", "grad layer1.bias", "grad layer1.weight",
        "layer1.weight", "layer1.bias", "layer2.weight", "layer2.bias",
    ]  # fmt: skip
    assert all(len(step) == len(names) for epoch in epochs for step in epoch.steps)
    assert [len(epoch.steps) for epoch in epochs] == [5, 5]


def test_values_are_kept_for_the_steps_asked_for() -> None:
    """Steps 1 and 2 of the epoch, whole."""
    epochs, names = traced()
    assert list(epochs[0].values) == [1, 2]
    assert list(epochs[0].values[1]) == names
    assert epochs[0].values[1]["inputs"]["shape"] == [128, 2]


@pytest.mark.parametrize("name", SEEN)
def test_a_fault_is_first_seen_where_it_was_injected(name: str) -> None:
    """The first differing epoch, step and tensor are the injected ones."""
    moment = MOMENT.replace("bit=27", "bit=30") if name.startswith("stuck") else MOMENT
    assert first_seen(f"{name}:{moment}") == SEEN[name]


@pytest.mark.parametrize("name", [name for name in TENSOR_FAULTS if name.endswith("data")])
def test_damaged_data_are_other_inputs(name: str) -> None:
    """What is wrong before training is in the digest of the inputs."""
    fault = read_fault(f"{name}:element=1,bit=30")
    clean = Training(Case(), RECIPE)
    faulty = Training(Case(), RECIPE, alter=partial(inject, faults=[fault]))
    assert clean.inputs_sha256() != faulty.inputs_sha256()


def test_every_fault_that_moves_bits_has_its_place() -> None:
    """No training fault is left out but those that act on processes, time or settings."""
    others = {"crash", "hang", "delay", "grow", "pin-draws", "drop-ignored", "worker-noise"}
    others |= {"race", "slow-clock", "stopped-clock", "backward-clock"}
    others |= {"reload-flip", *(name for name in TENSOR_FAULTS if name.endswith("data"))}
    assert set(SEEN) | others == set(TRAINING_FAULTS)
