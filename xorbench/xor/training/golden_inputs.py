"""Check PyTorch's random points, weights and orders against an independent implementation.

Labels and orders are integers and must be equal. Points and initial weights depend on `log`, `cos`
and one rounding, whose last bits vary with the instruction set, so they must be within a few
roundings of the float64 reference. If the exact digest is known, it must be equal.
"""

import json
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training import tensor_digest
from xorbench.xor.training.mersenne import FEWEST_NORMALS, FloatArray, IntArray, Mersenne
from xorbench.xor.training.problem import Inputs, XorPoints, make_inputs
from xorbench.xor.training.seeding import generator, stream

EPOCHS: Final = 3  # epochs with checked orders
MOST_POINTS: Final = 1_000_000  # maximum for checked orders
NOISE_ERROR: Final = 4e-6  # limit for a normal in float32, four times the largest measured error
ULPS: Final = 2
GOLDEN: Final = Path(__file__).with_name("golden_inputs.json")
TESTED_RELEASES: Final = ((2, 6), (2, 13))  # first and last release with these random numbers

SAME_KERNELS: Final = {"AVX512": "AVX2", "NO AVX": "DEFAULT"}  # "NO AVX" is PyTorch 2.6's name

NamedValue = dict[str, str]


def checked(recipe: Recipe, seed: int) -> dict[str, Any]:
    """Generate the inputs of a seed like a training, and check them; the fields of a record."""
    inputs = make_inputs(recipe, seed)
    sha256 = tensor_digest.sha256(inputs.entries())
    values = [*_points(recipe, seed, inputs), *_labels(recipe, seed, inputs)]
    values += [
        _weights(recipe, seed, inputs),
        *_orders(recipe, seed),
        *_golden(recipe, seed, sha256),
    ]
    digests = {
        "float32": sha256,
        "float64": tensor_digest.sha256(inputs.to(torch.float64).entries()),
    }
    return {"seed": seed, "inputs_sha256": digests, "details": values, "unseen": unseen()}


def unseen() -> str:
    """The reason why a difference is inconclusive in this environment; empty if it is a fault."""
    first, last = TESTED_RELEASES
    release = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if first <= release <= last:
        return ""
    tested = " to ".join(f"{major}.{minor}" for major, minor in TESTED_RELEASES)
    return f"the expected values hold for PyTorch {tested}, this is {torch.__version__}"


def reading(seed: int, name: str) -> Mersenne:
    """NumPy's implementation of a named stream, at its start."""
    return Mersenne(stream(seed, name))


def points(size: int, std: float, seed: int, name: str) -> FloatArray:
    """Points (size, 2) of a named stream, computed by NumPy."""
    draws = reading(seed, name)
    return (draws.bits(2 * size) + std * draws.normals(2 * size)).reshape(size, 2)


def labels(size: int, seed: int, name: str) -> IntArray:
    """Labels (size,) of a named stream, computed by NumPy."""
    bits = reading(seed, name).bits(2 * size).reshape(size, 2)
    return np.asarray(bits.sum(axis=1) == 1, dtype=np.int64)


def initial_weights(hidden: int, seed: int) -> list[FloatArray]:
    """The flat initial weights that `nn.Linear` generates from the stream `init`."""
    draws = reading(seed, "init")
    # He et al., 2015, with a = sqrt(5): uniform within 1 / sqrt(inputs), also for biases
    shapes = ((2 * hidden, 2), (hidden, 2), (hidden, hidden), (1, hidden))
    return [draws.uniforms(count, inputs**-0.5) for count, inputs in shapes]


def _points(recipe: Recipe, seed: int, inputs: Inputs) -> Iterator[NamedValue]:
    for name, data, size in _parts(recipe, inputs):
        if 2 * size < FEWEST_NORMALS:
            continue
        expected = points(size, recipe.std, seed, name)
        allowed = recipe.std * NOISE_ERROR + ULPS * np.spacing(np.abs(expected).astype("f4"))
        yield _close(f"{name} points", data.points, expected, allowed)


def _labels(recipe: Recipe, seed: int, inputs: Inputs) -> Iterator[NamedValue]:
    for name, data, size in _parts(recipe, inputs):
        yield _equal(f"{name} labels", data.labels.numpy(), labels(size, seed, name))


def _parts(recipe: Recipe, inputs: Inputs) -> Iterator[tuple[str, XorPoints, int]]:
    yield "train", inputs.train, recipe.train_size
    yield "test", inputs.test, recipe.test_size


def _weights(recipe: Recipe, seed: int, inputs: Inputs) -> NamedValue:
    expected = np.concatenate(initial_weights(recipe.hidden, seed))
    actual = torch.cat([weight.detach().reshape(-1) for weight in inputs.model.parameters()])
    allowed = np.full(len(expected), ULPS * float(np.spacing(np.float32(2**-0.5))))
    return _close("initial weights", actual, expected, allowed)


def _orders(recipe: Recipe, seed: int) -> Iterator[NamedValue]:
    size = recipe.train_size
    if size > MOST_POINTS:
        return
    expected, shuffle = orders(seed, size), generator(seed, "shuffle")
    indices: Any = range(size)
    loader = DataLoader(
        indices, batch_size=size, shuffle=True, generator=shuffle, collate_fn=np.array
    )
    for epoch in range(EPOCHS):
        (actual,) = loader
        yield _equal(f"order of epoch {epoch}", actual, next(expected))


def orders(seed: int, size: int, *, persistent: bool = False) -> Iterator[IntArray]:
    """The order of each epoch, (size,), that a `DataLoader` generates from the stream `shuffle`.

    Each epoch makes three random draws: the iterator's base seed, the order, and a second order
    that the sampler discards. `persistent` loader workers have a base seed only in the first epoch.
    """
    draws = reading(seed, "shuffle")
    draws.base_seed()
    while True:
        yield draws.order(size)
        draws.discarded_order(size)
        if not persistent:
            draws.base_seed()


def _golden(recipe: Recipe, seed: int, sha256: str) -> Iterator[NamedValue]:
    """The exact digest, if it is known for this recipe and these kernels."""
    default = Recipe()
    drawn = ("train_size", "test_size", "std", "hidden")
    known = golden().get(platform.machine(), {}).get(kernels(), [])
    same = all(getattr(recipe, name) == getattr(default, name) for name in drawn)
    if same and seed < len(known) and not unseen():
        yield {"what": "digest of points and weights", "expected": known[seed], "actual": sha256}


@cache
def golden() -> dict[str, dict[str, list[str]]]:
    """Digests of the inputs of the default recipe by machine and kernels, from seed 0 on."""
    digests: dict[str, dict[str, list[str]]] = json.loads(GOLDEN.read_text())
    return digests


def kernels() -> str:
    """The kernels that generate random numbers; AVX-512 uses the AVX2 kernels."""
    capability = torch.backends.cpu.get_cpu_capability()
    return SAME_KERNELS.get(capability, capability)


def _close(
    name: str, actual: torch.Tensor, expected: FloatArray, allowed: FloatArray
) -> NamedValue:
    gaps = np.abs(actual.detach().double().numpy() - expected)
    wrong = np.argwhere(~(gaps <= allowed))
    difference = ""
    if len(wrong):
        first = tuple(int(place) for place in wrong[0])
        difference = f"{len(wrong)} differ, first {list(first)} by {gaps[first]:.2g}"
    return _value(name, "equal to NumPy within a few roundings", difference)


def _equal(name: str, actual: npt.NDArray[Any], expected: IntArray) -> NamedValue:
    wrong = np.argwhere(actual != expected) if actual.shape == expected.shape else [[0]]
    difference = f"{len(wrong)} differ, first at {int(wrong[0][0])}" if len(wrong) else ""
    return _value(name, "equal to NumPy", difference)


def _value(name: str, expected: str, difference: str) -> NamedValue:
    return {"what": name, "expected": expected, "actual": difference or expected}
