"""The universal training's integers, points, weights, order and digest."""

import math
import subprocess
import sys
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from xorbench import state_digest
from xorbench.errors import BadOption
from xorbench.machine.universal import spec
from xorbench.machine.universal.spec import UniversalRecipe


def test_mix_is_the_finalizer_of_splitmix64() -> None:
    """A stream with key 0 is SplitMix64 seeded with 0, whose first outputs are published."""
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert expected == spec.u64(0, 0, 3).tolist()


def test_u64_wraps_modulo_two_to_the_64() -> None:
    """A key near 2**64 gives the same words as integers modulo 2**64."""
    mask, stream = 2**64 - 1, 2**64 - 6
    z = (stream + 3 * spec.GOLDEN_GAMMA) & mask
    z = (z ^ z >> 30) * spec.MIX_1 & mask
    z = (z ^ z >> 27) * spec.MIX_2 & mask
    assert z ^ z >> 31 == int(spec.u64(stream, 2, 3)[0])


def test_u64_of_a_later_start_continues_the_stream() -> None:
    """Words 5 to 8 do not depend on whether the words before them are generated."""
    assert spec.u64(7, 0, 9)[5:].tolist() == spec.u64(7, 5, 9).tolist()


def test_key_is_the_head_of_a_sha256() -> None:
    """It is the check value of docs/universal.md."""
    assert spec.key("train-bits", 0) == 0x508344F84995E83F


def test_points_of_a_seed_do_not_depend_on_their_number() -> None:
    """The first 10 of 100 points equal 10 points."""
    many, few = spec.points("train", 3, 100, 0.1), spec.points("train", 3, 10, 0.1)
    for part_of_100, part_of_10 in zip(many, few, strict=True):
        assert part_of_10.tolist() == part_of_100[:10].tolist()


def test_points_are_their_bits_when_there_is_no_noise() -> None:
    """With std 0, each coordinate is 0 or 1 and the label is their exclusive or."""
    x0, x1, label = spec.points("test", 0, 500, 0.0)
    assert set(x0.tolist()) == {0.0, 1.0}
    assert np.logical_xor(x0, x1).astype(np.float32).tolist() == label.tolist()


def test_noise_has_mean_0_and_variance_1() -> None:
    """This holds for 50,000 numbers within five standard errors."""
    noise = spec.normals("train", 0, 25_000).astype(np.float64)
    assert noise.mean() == pytest.approx(0, abs=5 / math.sqrt(noise.size))
    assert noise.var() == pytest.approx(1, abs=5 * math.sqrt(2 / noise.size))


def test_initial_weights_are_within_their_bounds() -> None:
    """No weight of 200 seeds exceeds the bound of its tensor, and some are close to it."""
    weights = np.abs(spec.initial_weights(range(200)))
    bounds = np.repeat([p.bound for p in spec.PARAMETERS], [p.size for p in spec.PARAMETERS])
    assert (weights <= bounds.astype(np.float32)).all()
    assert (weights.max(axis=0) > 0.9 * bounds).all()


def test_epoch_order_is_a_permutation_that_changes_with_the_epoch() -> None:
    """Each epoch visits every point once in a different order."""
    first, second = spec.epoch_order(0, 2500), spec.epoch_order(1, 2500)
    assert list(range(2500)) == sorted(first) == sorted(second)
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "steps", "last"),
    [(128, True, 19, 128), (128, False, 20, 68), (125, True, 20, 125), (125, False, 20, 125)],
)
def test_drop_last_drops_only_the_short_batch(
    batch_size: int, drop_last: bool, steps: int, last: int
) -> None:
    """2,500 points are 19 batches of 128 and 68 more, or 20 batches of 125."""
    batches = UniversalRecipe(batch_size=batch_size, drop_last=drop_last).batches
    assert (steps, last) == (len(batches), batches[-1].stop - batches[-1].start)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": -1}, {"train_size": 2.5}, {"std": math.nan}, {"lr": math.inf},
     {"lr": -0.1}, {"batch_size": 2501}],
)  # fmt: skip
def test_recipe_refuses_invalid_values(wrong: dict[str, float]) -> None:
    """A value out of range is an error that names the option."""
    with pytest.raises(BadOption, match=next(iter(wrong)).replace("_", "-")):
        UniversalRecipe(**wrong)  # type: ignore[arg-type]


def state_sha256(tensors: dict[str, npt.NDArray[Any]]) -> str:
    """The digest of named arrays by a plain implementation."""
    return state_digest.sha256(
        (name, t.dtype.name, t.shape, t.astype(t.dtype.newbyteorder("<")).tobytes())
        for name, t in tensors.items()
    )


def test_digests_are_the_state_digest() -> None:
    """The fast implementation for [S, 17] equals the plain one for named tensors."""
    weights = spec.initial_weights([0, 1])
    assert [state_sha256(dict(spec.state(row))) for row in weights] == spec.digests(weights)


def test_state_has_the_names_of_a_pytorch_module() -> None:
    """Names, order and shapes equal layer1 = Linear(2, 4), layer2 = Linear(4, 1)."""
    from torch import nn

    layers: list[tuple[str, nn.Module]] = [
        ("layer1", nn.Linear(2, 4)),
        ("act_fn", nn.Tanh()),
        ("layer2", nn.Linear(4, 1)),
    ]
    model = nn.Sequential(OrderedDict(layers))
    expected = [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()]
    state = spec.state(spec.initial_weights([0])[0])
    assert expected == [(name, tensor.shape) for name, tensor in state.items()]


def test_first_points_and_weights_are_the_documented_ones() -> None:
    """They are bitwise identical to the check values of docs/universal.md."""
    points = spec.points("train", 0, 2500, 0.1)
    first = np.array([part[0] for part in points], dtype=np.float32)
    assert first.view(np.uint32).tolist() == [0x3E09E59A, 0x3DA19333, 0x00000000]
    weights = spec.initial_weights([0])
    assert weights[0, :2].view(np.uint32).tolist() == [0xBF066F0B, 0xBEC9544B]
    assert spec.digests(weights)[0].startswith("dde37af531923211")
    assert spec.epoch_order(0, 2500)[:4].tolist() == [342, 818, 2132, 1240]


def test_digest_depends_on_sign_order_shape_and_dtype() -> None:
    """A negated, permuted, reshaped or widened tensor and -0 change the digest."""
    tensor = np.array([0.0, 1.0, 2.0, 3.0], dtype=np.float32)
    changed: list[npt.NDArray[Any]] = [
        -tensor,
        tensor[::-1],
        tensor.reshape(2, 2),
        tensor.astype(np.float64),
    ]
    signed = tensor.copy()
    signed[0] = -0.0
    digests = {state_sha256({"w": value}) for value in [tensor, signed, *changed]}
    assert len(digests) == 6


def test_importing_the_package_imports_nothing_heavy() -> None:
    """The specification, the oracle, the golden values and the probe need no torch or numba."""
    code = (
        "import sys; from xorbench.machine.universal import golden, numpy_backend, probe, spec;"
        "sys.exit(bool({'torch', 'numba'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
