"""Sums, means, cumulative sums, extremes, orders and counts of integers."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xorbench.machine.probes.exact import Arrays, ExactCase, tensor, torch_type, whole_bits
from xorbench.machine.probes.integers import SIGNIFICAND, Whole, entries, largest_entry, permutation

ROWS: Final = 5
ODD: Final = 4097
EVEN: Final = 4096  # a power of two, so that a mean is exact


class Reduce(NamedTuple):
    """One reduction along the last dimension, in NumPy and in PyTorch."""

    name: str
    expected: Callable[[Whole], Whole]
    compute: Callable[[Tensor], Tensor]
    result: str = ""  # the type of the result, if it differs from the type of the numbers


SUMS: Final = (
    Reduce("sum", lambda x: x.sum(-1), lambda x: x.sum(-1)),
    Reduce("sum of columns", lambda x: x.sum(0), lambda x: x.sum(0)),
    Reduce("sum of all", lambda x: x.sum(keepdims=True)[0], lambda x: x.sum().view(1)),
    Reduce("cumulative sum", lambda x: x.cumsum(-1), lambda x: x.cumsum(-1)),
)
ORDERS: Final = (
    Reduce("max", lambda x: x.max(-1), lambda x: x.amax(-1)),
    Reduce("min", lambda x: x.min(-1), lambda x: x.amin(-1)),
    Reduce("argmax", lambda x: x.argmax(-1), lambda x: x.argmax(-1), "int64"),
    Reduce("sort", lambda x: np.sort(x, -1), lambda x: x.sort(-1)[0]),
    Reduce("places of sort", lambda x: np.argsort(x, -1), lambda x: x.sort(-1)[1], "int64"),
    Reduce("top 31", lambda x: -np.sort(-x, -1)[..., :31], lambda x: x.topk(31, -1)[0]),
)
"""For distinct values only, since the order of equal values is undefined."""


def cases() -> Iterator[ExactCase]:
    """Yield every reduction."""
    for dtype in ("float32", "float64", "bfloat16", "float16", "int32", "int64"):
        for reduce in SUMS:
            yield _case(f"{dtype} {reduce.name}", dtype, reduce, partial(_summands, dtype))
    for dtype in ("float32", "float64"):
        mean = Reduce("mean", lambda x: x.sum(-1) // EVEN, lambda x: x.mean(-1))
        yield _case(f"{dtype} mean", dtype, mean, _means)
    for dtype in ("float32", "float64", "int32"):
        for reduce in ORDERS:
            yield _case(f"{dtype} {reduce.name}", dtype, reduce, _distinct)
    count = Reduce("histogram", _histogram, lambda x: torch.bincount(x.view(-1), minlength=64))
    yield _case("int64 histogram", "int64", count, _small)


def _case(name: str, dtype: str, reduce: Reduce, make: Callable[[str], Arrays]) -> ExactCase:
    result = reduce.result or dtype

    def compute(arrays: Arrays, device: torch.device) -> Tensor:
        return reduce.compute(tensor(arrays["x"], dtype, device)).to(torch_type(result)) + 0

    return ExactCase(
        name,
        result,
        partial(make, name),
        lambda arrays: whole_bits(np.ascontiguousarray(reduce.expected(arrays["x"])), result),
        compute,
    )


def _summands(dtype: str, name: str) -> Arrays:
    """Numbers whose partial sums are exact in the type; few of them for narrow types."""
    bits = SIGNIFICAND.get(dtype, 30)
    columns = ODD if bits >= 24 else 2 ** (bits - 3) - 1
    most = largest_entry(ROWS * columns, 2**bits, 2 ** (bits - 1))
    return {"x": entries(name, 0, (ROWS, columns), most)}


def _means(name: str) -> Arrays:
    """Numbers for which the sum of each row is a multiple of its length."""
    x = entries(name, 0, (ROWS, EVEN), 64)
    x[:, 0] -= x.sum(-1) % EVEN
    return {"x": x}


def _distinct(name: str) -> Arrays:
    rows = [permutation(f"{name}/{row}", 0, ODD) - ODD // 2 for row in range(ROWS)]
    return {"x": np.stack(rows) * 1013}


def _small(name: str) -> Arrays:
    return {"x": np.abs(entries(name, 0, (ROWS, ODD), 64)) - 1}


def _histogram(x: Whole) -> Whole:
    return np.bincount(x.reshape(-1), minlength=64).astype(np.int64)
