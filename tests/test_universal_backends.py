"""All backends of the universal training are bitwise identical for any ensemble and threads."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from universal_faults import fuses, recompiled

from xorbench.errors import BadOption
from xorbench.machine.universal import (
    numba_backend,
    numba_math,
    numba_single,
    numpy_backend,
    torch_backend,
)
from xorbench.machine.universal.backends import BACKENDS, Backend
from xorbench.machine.universal.spec import UniversalRecipe
from xorbench.machine.universal.trained import Keep, Trained

SHORT = UniversalRecipe(train_size=300, test_size=60, epochs=3, batch_size=32)
RECIPES = (
    SHORT,
    replace(SHORT, drop_last=False),
    replace(SHORT, batch_size=1, train_size=9),
    replace(SHORT, batch_size=3, train_size=10, drop_last=False),
    replace(SHORT, batch_size=300),
    replace(SHORT, std=0.3, lr=0.7),
)
backends = pytest.mark.parametrize("name", ["numpy", "torch", "numba"])


def train(name: str, recipe: UniversalRecipe, seeds: list[int], keep: Keep = Keep.FINAL) -> Trained:
    """Train with a backend by name, with all optional results."""
    return BACKENDS[name].load().train(recipe, seeds, keep=keep, score_epochs=True)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("name", ["torch", "numba"])
def test_backend_is_bitwise_identical_to_the_oracle(name: str, recipe: UniversalRecipe) -> None:
    """Weights and scores after every epoch are equal for a block and four more models."""
    seeds = [0, 5, *range(100, 116), 70_000, 70_001]
    actual = train(name, recipe, seeds, Keep.EPOCHS)
    expected = train("numpy", recipe, seeds, Keep.EPOCHS)
    assert expected.kept.view(np.uint32).tolist() == actual.kept.view(np.uint32).tolist()
    assert expected.epoch_correct.tolist() == actual.epoch_correct.tolist()
    assert expected.digests() == actual.digests()


@backends
@pytest.mark.parametrize("ensemble", [1, 3, 7, 40])
def test_bits_do_not_depend_on_the_ensemble(name: str, ensemble: int) -> None:
    """Seed 2 gives equal epoch digests on its own and in an ensemble."""
    single = train(name, SHORT, [2], Keep.EPOCHS)
    joint = train(name, SHORT, [*range(100, 100 + ensemble), 2], Keep.EPOCHS)
    assert single.epoch_digests() == joint.epoch_digests(ensemble)
    assert single.epoch_correct[:, 0].tolist() == joint.epoch_correct[:, ensemble].tolist()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_numba_bits_do_not_depend_on_the_threads(threads: int) -> None:
    """Forty seeds are three blocks with any number of threads."""
    seeds = range(40)
    expected = numpy_backend.train(SHORT, seeds).digests()
    assert expected == numba_backend.train(SHORT, seeds, threads=threads).digests()


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_bits_do_not_depend_on_the_threads(threads: int) -> None:
    """There are enough models for parallel operations: 64 * 128 * 17 numbers."""
    import torch

    recipe, seeds = UniversalRecipe(epochs=1), range(64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        actual = torch_backend.train(recipe, seeds).digests()
    finally:
        torch.set_num_threads(before)
    assert numpy_backend.train(recipe, seeds).digests() == actual


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_step_epoch_digests_holds_the_epoch_epoch_digests(name: str) -> None:
    """Every ninth step's digest is an epoch digest, and the last is the final digest."""
    steps = train(name, SHORT, [1], Keep.STEPS)
    epochs = train(name, SHORT, [1], Keep.EPOCHS)
    assert len(steps.epoch_digests()) == SHORT.steps
    assert epochs.epoch_digests() == steps.epoch_digests()[8::9]
    assert steps.epoch_digests()[-1] == steps.digests()[0]


def test_first_steps_are_the_documented_ones() -> None:
    """They equal the check values of docs/universal.md after steps 1, 2 and 19 of seed 0."""
    epoch_digests = numpy_backend.train(
        UniversalRecipe(epochs=1), [0], keep=Keep.STEPS
    ).epoch_digests()
    begins = ["5a8939455fc3ed4e", "81d36bbe36d5f102", "b0cde753774d512e"]
    assert begins == [epoch_digests[step - 1][:16] for step in (1, 2, 19)]


def test_step_epoch_digests_of_torch_and_the_oracle_are_equal() -> None:
    """The digest of each step is equal."""
    assert (
        train("numpy", SHORT, [1], Keep.STEPS).epoch_digests()
        == train("torch", SHORT, [1], Keep.STEPS).epoch_digests()
    )


def test_numba_refuses_digests_of_steps() -> None:
    """The error names the backends that support them."""
    with pytest.raises(BadOption, match="not after steps"):
        train("numba", SHORT, [1], Keep.STEPS)


@backends
def test_nothing_is_kept_by_default(name: str) -> None:
    """The default keeps only final weights and scores."""
    plain = BACKENDS[name].load().train(SHORT, [0, 1])
    assert (plain.kept.shape, plain.epoch_correct.shape) == ((0, 2, 17), (0, 2))
    assert train(name, SHORT, [0, 1]).epoch_correct[-1].tolist() == plain.correct.tolist()


@backends
def test_results_have_the_stated_types(name: str) -> None:
    """Weights are float32 and counts int64, on every backend."""
    trained = train(name, SHORT, [0], Keep.EPOCHS)
    assert {np.dtype(np.float32)} == {trained.weights.dtype, trained.kept.dtype}
    assert {np.dtype(np.int64)} == {trained.correct.dtype, trained.epoch_correct.dtype}


def test_numba_kernel_has_no_fused_multiply_add() -> None:
    """The machine code of the training has no fused operation."""
    kernel = recompiled(vars(numba_backend))
    numba_backend.train(SHORT, [0], kernel=kernel)
    assert not fuses(kernel)
    single = recompiled(vars(numba_single))
    numba_single.NumbaStepper(SHORT, 0, single).epoch()
    assert not fuses(single)


def test_a_fused_single_kernel_has_different_bits() -> None:
    """The digests detect contraction in the kernel of a single model."""
    kernel = recompiled(vars(numba_single), fastmath={"contract"})
    fused, plain = (numba_single.NumbaStepper(SHORT, 0, *kernels) for kernels in ((kernel,), ()))
    for stepper in (fused, plain):
        stepper.advance(SHORT.epochs)
    if not fuses(kernel):
        pytest.skip("this instruction set has no fused multiply-add")
    assert fused.weights.tobytes() != plain.weights.tobytes()


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8, 9, 15, 16, 17, 31, 33, 64, 100])
def test_a_single_model_is_bitwise_identical_to_numpy(batch_size: int, drop_last: bool) -> None:
    """This holds after every epoch, for any padding of chunks and trees."""
    recipe = UniversalRecipe(
        train_size=101, test_size=33, batch_size=batch_size, epochs=3, drop_last=drop_last
    )
    options: dict[str, Any] = {"keep": Keep.EPOCHS, "score_epochs": True}
    expected = numpy_backend.train(recipe, [5], **options)
    trained = numba_backend.train(recipe, [5], threads=1, **options)
    assert trained.kept.tobytes() == expected.kept.tobytes()
    assert trained.epoch_correct.tolist() == expected.epoch_correct.tolist()
    assert trained.correct.tolist() == expected.correct.tolist()


def test_few_models_are_trained_individually(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than SINGLES models use a block."""
    monkeypatch.setattr(numba_backend, "train_block", None)
    numba_backend.train(SHORT, range(numba_backend.SINGLES))
    with pytest.raises(TypeError):
        numba_backend.train(SHORT, range(numba_backend.SINGLES + 1))


def test_numba_compiles_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only home only costs compile time."""
    import numba

    def njit(*, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba_njit(**options)

    numba_njit = numba.njit
    monkeypatch.setattr(numba, "njit", njit)
    assert numba_math.jit(lambda x: x + 1)(1) == 2


def test_bit_reversed_order_pairs_the_halves() -> None:
    """Neighbours are half the rows apart, as the tree of a sum requires."""
    assert numba_math.bit_reversed(5).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    assert numba_math.bit_reversed(1).tolist() == [0]


def test_missing_library_is_a_reason() -> None:
    """A backend names its missing library and does not raise."""
    reason = Backend("other", "nowhere", needs=("no_such_library",)).missing()
    assert reason is not None
    assert "no_such_library cannot be imported: ModuleNotFoundError" in reason


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_cpu_backend_refuses_a_different_device(name: str) -> None:
    """The error names the supported device."""
    with pytest.raises(BadOption, match=f"{name} backend supports only cpu, got cuda"):
        BACKENDS[name].load("cuda")
