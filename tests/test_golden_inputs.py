"""PyTorch's generator in NumPy: an independent reference for every random draw of a training."""

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from xorbench.records.schema.golden import Fact
from xorbench.records.schema.run import Run
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks import judge
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training import golden_inputs
from xorbench.xor.training.mersenne import Mersenne

SEED = 7_207_269_278_961_234_051  # of more than 32 bits


def test_bits_are_those_of_randint() -> None:
    """The next random numbers are also equal."""
    draws, read = torch.Generator().manual_seed(SEED), Mersenne(SEED)
    for count in (5, 1_000):
        drawn = torch.randint(0, 2, (count,), generator=draws)
        assert (drawn.numpy() == read.bits(count)).all()


@pytest.mark.parametrize("count", [1, 2, 1_000])
def test_an_order_is_that_of_randperm(count: int) -> None:
    """Three orders in a row are equal; an order of one point needs no random number."""
    draws, read = torch.Generator().manual_seed(SEED), Mersenne(SEED)
    for _ in range(3):
        assert (torch.randperm(count, generator=draws).numpy() == read.order(count)).all()


@pytest.mark.parametrize("count", [16, 5_000, 5_003])
def test_normals_are_those_of_randn(count: int) -> None:
    """They are equal within float32's roundings, also with a repeated last block."""
    drawn = torch.randn(count, generator=torch.Generator().manual_seed(SEED)).double().numpy()
    assert np.abs(drawn - Mersenne(SEED).normals(count)).max() < golden_inputs.NOISE_ERROR


def test_few_normals_are_not_supported() -> None:
    """PyTorch uses a different method for them."""
    with pytest.raises(ValueError, match="fewer than 16"):
        Mersenne(0).normals(15)


def test_initial_weights_are_those_of_the_layers() -> None:
    """Weights and biases are equal in the order of the layers."""
    torch.manual_seed(SEED)
    layers = nn.Linear(2, 7), nn.Linear(7, 1)
    read = Mersenne(SEED)
    for layer, inputs in zip(layers, (2, 7), strict=True):
        for weight in (layer.weight, layer.bias):
            expected = read.uniforms(weight.numel(), inputs**-0.5)
            assert np.abs(weight.detach().numpy().ravel() - expected).max() < 1e-7


@pytest.mark.parametrize(
    "recipe", [Recipe(), Recipe(train_size=1_001, test_size=3, std=0.0, hidden=9)]
)
@pytest.mark.parametrize("seed", [3, 2**31 - 1])
def test_correct_inputs_pass(recipe: Recipe, seed: int) -> None:
    """This holds for any recipe and seed."""
    facts = golden_inputs.checked(recipe, seed)["details"]
    assert [fact for fact in facts if fact["actual"] != fact["expected"]] == []


def test_the_digest_is_known_for_ten_seeds_of_the_default_recipe() -> None:
    """They are known only for the kernels with digests in the package."""
    known = golden_inputs.golden().get(golden_inputs.platform.machine(), {})
    names = [f["what"] for f in golden_inputs.checked(Recipe(), 9)["details"]]
    assert ("digest of points and weights" in names) == (golden_inputs.kernels() in known)
    for recipe, seed in ((Recipe(), 10), (Recipe(std=0.2), 0)):
        names = [f["what"] for f in golden_inputs.checked(recipe, seed)["details"]]
        assert "digest of points and weights" not in names


def outcomes(run: Run) -> dict[str, str]:
    """The verdicts on seed 0 and on the first case."""
    first = run.trainings[0].case.id
    wanted = ("golden inputs", "seed 0"), ("accuracy of arithmetic", first)
    return {v.check: v.outcome for v in judge(Evidence(run)) if (v.check, v.subject) in wanted}


def altered(run: Run, unseen: str) -> Run:
    """The run with a wrong order in its processes."""
    wrong = Fact(what="order of epoch 0", expected="NumPy's", actual="2 differ, first at 0")
    lines = [
        msgspec.structs.replace(line, details=[*line.details, wrong], unseen=unseen)
        for line in run.golden_inputs
    ]
    return msgspec.structs.replace(run, golden_inputs=lines)


def test_a_difference_fails_with_a_tested_release(quick_run: Run) -> None:
    """A correct run passes; with one wrong value it fails."""
    assert outcomes(quick_run)["golden inputs"] == "pass"
    assert outcomes(altered(quick_run, ""))["golden inputs"] == "fail"


def test_a_difference_is_inconclusive_with_an_untested_release(quick_run: Run) -> None:
    """A different PyTorch may generate different numbers; dependent checks are skipped."""
    assert outcomes(altered(quick_run, "a new PyTorch"))["golden inputs"] == "inconclusive"


@pytest.mark.parametrize("kept", [0, 1])
def test_a_missing_line_does_not_pass(kept: int, quick_run: Run) -> None:
    """The lines of all processes or of one are missing."""
    run = msgspec.structs.replace(quick_run, golden_inputs=quick_run.golden_inputs[:kept])
    assert outcomes(run)["golden inputs"] == "inconclusive"


def test_unchecked_inputs_fail(quick_run: Run) -> None:
    """One training with different inputs is enough."""
    trainings = [msgspec.structs.replace(t, inputs_sha256="0" * 64) for t in quick_run.trainings]
    run = msgspec.structs.replace(quick_run, trainings=trainings)
    assert outcomes(run)["golden inputs"] == "fail"
