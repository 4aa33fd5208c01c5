"""The training: streams, digests, points, network, loop, calibration workload."""

import hashlib
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.faults import FaultSpec
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training import engines, tensor_digest
from xorbench.xor.training.calibration import KINDS, VERSION, CalibrationWorkload
from xorbench.xor.training.engines import TrainingSpec
from xorbench.xor.training.faults import flip_bit, inject
from xorbench.xor.training.problem import loss_of, make_inputs, make_model, make_points, score
from xorbench.xor.training.seeding import GlobalState, forked, generator, stream
from xorbench.xor.training.training import Training, inline_weights, load_model, save_state

CPU = torch.device("cpu")
SHORT = Recipe(epochs=3)


def epoch_digests(case: Case, recipe: Recipe = SHORT) -> list[str]:
    """The epoch digests of a new training."""
    training = Training(case, recipe)
    return [training.step().digest for _ in range(recipe.epochs)]


# Streams and global state


def test_a_stream_is_the_published_number() -> None:
    """The check value of workload.md §3."""
    assert stream(0, "shuffle") == 7207269278961234051


def test_forked_restores_the_callers_generator() -> None:
    """Random draws within the context do not advance the global generator."""
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with forked(0, "init"):
        torch.rand(99)
    assert torch.equal(expected, torch.rand(4))


def test_making_inputs_does_not_advance_the_global_generator() -> None:
    """Points and weights come from their own streams."""
    before = torch.get_rng_state()
    make_inputs(Recipe(), 0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "draw",
    [lambda: torch.rand(1).item(), random.random, np.random.random],
    ids=["torch", "random", "numpy"],
)
def test_interleaved_global_draws_do_not_leak(draw: Callable[[], float]) -> None:
    """Two trainings that use global generators in turn get the numbers of separate trainings."""

    def draws(turns: list[GlobalState]) -> list[float]:
        values = []
        for state in turns:
            with state.swapped_in():
                values.append(draw())
        return values

    single = draws([GlobalState(CPU, 1)])
    first, second = GlobalState(CPU, 1), GlobalState(CPU, 2)
    mixed = draws([first, second, first, second])
    first, second = GlobalState(CPU, 1), GlobalState(CPU, 2)
    separate = draws([first, first, second, second])
    assert single[0] == mixed[0]
    assert [mixed[0], mixed[2], mixed[1], mixed[3]] == separate


def test_flags_are_restored() -> None:
    """A training that disables gradients or changes the dtype affects only itself."""
    state = GlobalState(CPU, 0)
    with state.swapped_in():
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    with state.swapped_in():
        assert not torch.is_grad_enabled()


# Digests


def test_a_digest_is_the_hash_of_the_stated_bytes() -> None:
    """The bytes are name NUL dtype NUL shape NUL little-endian values (workload.md §4)."""
    tensor = torch.tensor([[1.0, -2.0]])
    text = b"w\0float32\0" + b"1,2\0" + np.array([1.0, -2.0], "<f4").tobytes()
    assert tensor_digest.sha256([("w", tensor)]) == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize(
    "changed",
    [
        torch.tensor([2.0, 1.0, 3.0]),
        torch.tensor([1.0, -2.0, 3.0]),
        torch.tensor([[1.0, 2.0, 3.0]]),
        torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
        torch.tensor([1.0, 2.0, 3.0000002]),
    ],
    ids=["permuted", "negated", "reshaped", "retyped", "one ulp"],
)
def test_every_change_gives_a_different_digest(changed: torch.Tensor) -> None:
    """Order, sign, shape, type and the last bit each change the digest."""
    first = torch.tensor([1.0, 2.0, 3.0])
    assert tensor_digest.sha256([("w", first)]) != tensor_digest.sha256([("w", changed)])


def test_a_digest_reads_a_view_like_its_copy() -> None:
    """Strides do not affect the digest."""
    tensor = torch.arange(6.0).reshape(2, 3)
    assert tensor_digest.raw_bytes(tensor.t()) == tensor_digest.raw_bytes(tensor.t().contiguous())


# Points and network


def test_points_are_noisy_corners_with_the_label_of_their_bits() -> None:
    """Shapes, types and balance are correct, and a label is 1 if exactly one bit is set."""
    data = make_points(2500, 0.1, 0, "train")
    assert data.points.shape == (2500, 2)
    assert data.points.dtype == torch.float32
    bits = data.points.round()
    assert torch.equal((bits[:, 0] != bits[:, 1]).long(), data.labels)
    assert 0.45 < data.labels.float().mean() < 0.55
    assert 0.09 < (data.points - bits).std() < 0.11


def test_the_network_is_the_recipes() -> None:
    """It has 17 parameters with the tutorial's names."""
    shapes = {name: tuple(t.shape) for name, t in make_model(4, 0).state_dict().items()}
    assert shapes == {
        "layer1.weight": (4, 2),
        "layer1.bias": (4,),
        "layer2.weight": (1, 4),
        "layer2.bias": (1,),
    }


def test_a_score_counts_integers_and_keeps_the_mode() -> None:
    """A network that always predicts 1 is correct exactly for the ones."""
    data = make_points(101, 0.1, 0, "test")
    model = make_model(4, 0)
    with torch.no_grad():
        model.layer2.weight.zero_()
        model.layer2.bias.fill_(1.0)
    result = score(model, data, 32, CPU)
    assert (result.correct, result.total) == (int(data.labels.sum()), 101)
    assert result.predictions == "1" * 101
    assert model.training


def test_the_loss_is_the_mean_cross_entropy() -> None:
    """At logit 0 the loss of every point is log 2."""
    loss = loss_of(torch.zeros(6, 1), torch.tensor([0, 1, 1, 0, 1, 0]))
    assert loss.item() == pytest.approx(np.log(2))


# The loop


def test_a_training_is_reproducible() -> None:
    """Two trainings of a case have equal epoch digests."""
    assert epoch_digests(Case()) == epoch_digests(Case())


def test_interleaving_does_not_change_a_training() -> None:
    """Two trainings stepped in turn have the epoch digests of separate trainings."""
    first, second = Training(Case(), SHORT), Training(Case(batch_size=32, seed=5), SHORT)
    mixed = [(first.step().digest, second.step().digest) for _ in range(3)]
    assert [a for a, _ in mixed] == epoch_digests(Case())
    assert [b for _, b in mixed] == epoch_digests(Case(batch_size=32, seed=5))


def test_the_callers_random_state_does_not_affect_a_training() -> None:
    """Seeding and random draws between the steps do not change the result."""
    training = Training(Case(), SHORT)
    mixed = []
    for turn in range(3):
        torch.manual_seed(turn)
        torch.rand(turn)
        mixed.append(training.step().digest)
    assert mixed == epoch_digests(Case())


@pytest.mark.parametrize(
    "case",
    [Case(pin_memory=True), Case(num_workers=2), Case(non_blocking=True)],
    ids=lambda c: c.id,
)
def test_settings_of_data_loading_do_not_change_the_result(case: Case) -> None:
    """Pinning, loader workers and non-blocking copies keep every bit."""
    assert epoch_digests(case) == epoch_digests(Case())


def test_only_the_epoch_is_timed() -> None:
    """The clock is read exactly twice per step; the difference is the epoch's time."""
    ticks = iter([1.0, 3.0, 10.0, 10.25, 20.0, 20.5])  # the first two: the start-up
    training = Training(Case(), SHORT, clock=lambda: next(ticks))
    assert [training.step().epoch_s for _ in range(2)] == [0.25, 0.5]
    assert next(ticks, None) is None


def test_the_loss_of_an_epoch_is_its_last_steps() -> None:
    """With one batch per epoch, it is the loss of all data before the step."""
    case = Case(batch_size=2500)
    training = Training(case, SHORT)
    inputs = training.inputs.train
    with torch.no_grad():
        expected = loss_of(training.model(inputs.points), inputs.labels)
    assert training.step().loss == pytest.approx(expected.item(), rel=1e-5)


def test_a_saved_model_is_loaded_identically() -> None:
    """Digest and predictions are equal."""
    training = Training(Case(), SHORT)
    training.step()
    result = training.finish()
    assert result.reloaded_sha256 == result.weights_sha256
    assert result.reloaded_test == result.test


def test_loading_does_not_advance_the_generator() -> None:
    """A model for loading is created without random numbers."""
    saved = save_state(make_model(4, 1).state_dict())
    before = torch.get_rng_state()
    load_model(saved, 4)
    assert torch.equal(before, torch.get_rng_state())


def test_finishing_does_not_change_the_weights() -> None:
    """Scoring has no side effects."""
    training = Training(Case(), SHORT)
    last = training.step().digest
    assert training.finish().weights_sha256 == last


def test_large_weights_are_not_kept_inline() -> None:
    """Above 64 KiB only the digest is recorded."""
    assert inline_weights({"w": torch.zeros(16 * 1024)}) is not None
    assert inline_weights({"w": torch.zeros(16 * 1024 + 1)}) is None


def test_an_engine_runs_any_model() -> None:
    """The loader engine trains a different network, loss and optimizer without changes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    spec = TrainingSpec(
        case=Case(),
        device=CPU,
        data=make_points(512, 0.1, 0, "train"),
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        shuffle=generator(0, "shuffle"),
    )
    epoch = engines.opened("loader", spec)
    losses = [float(epoch()) for _ in range(30)]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("bit", [0, 23, 31])
def test_a_flipped_bit_is_one_bit(bit: int) -> None:
    """Exactly the stated bit of the stated element changes."""
    tensor = torch.rand(3, 4)
    before = np.frombuffer(tensor_digest.raw_bytes(tensor), "<u4").copy()
    flip_bit(tensor, 5, bit)
    after = np.frombuffer(tensor_digest.raw_bytes(tensor), "<u4")
    changed = {index: int(x) for index, x in enumerate(after ^ before) if x}
    assert changed == {5: 1 << bit}


def test_a_weight_flip_acts_in_its_step() -> None:
    """Injected in epoch 1, it changes the epoch digests from epoch 1 on."""
    fault = FaultSpec("flip-weight", {"epoch": 1, "step": 18, "bit": 20})
    injected = Training(Case(), SHORT, alter=lambda training: inject(training, [fault]))
    diverged = [injected.step().digest for _ in range(3)]
    clean = epoch_digests(Case())
    assert [a == b for a, b in zip(diverged, clean, strict=True)] == [True, False, False]


# The calibration workload


@pytest.mark.parametrize("kind", KINDS)
def test_every_calibration_epoch_is_the_same_work(kind: str) -> None:
    """It starts from the same weights each time, and ends at equal, trained weights."""
    calibration = CalibrationWorkload(CPU, kind)
    start = calibration.weights()
    ends = []
    for _ in range(3):
        calibration.epoch()
        ends.append(calibration.weights())
    assert all(torch.equal(a, b) for end in ends for a, b in zip(end, ends[0], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(start, ends[0], strict=True))


# fmt: off
FROZEN = {
    "tensor": [
    0.238, 0.146, 0.07, -0.372, 0.058, -0.231, 0.513, 0.439, -0.471, -0.04, 0.42, 0.109,
    0.091, -0.406, 0.039, 0.238, -0.381,
    ],
    "loader": [
        -0.314, -0.274, -0.33, -0.048, 0.023, 0.303, -0.16, 0.052, -0.359, 0.456, 0.397, -0.033,
        -0.497, -0.378, -0.359, 0.156, -0.18,
    ],
}
# fmt: on


@pytest.mark.parametrize("kind", KINDS)
def test_the_calibration_is_frozen(kind: str) -> None:
    """Version 3 ends at these weights; a change of its work needs a new version.

    The values are rounded, since their last bits belong to the instruction set.
    """
    calibration = CalibrationWorkload(CPU, kind)
    calibration.epoch()
    ends = torch.cat([weight.flatten() for weight in calibration.weights()])
    assert VERSION == 3
    assert [round(value, 3) for value in ends.tolist()] == FROZEN[kind]
