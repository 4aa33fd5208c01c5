"""Sums of many numbers into shared positions, which a device may add in any order."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xorbench.machine.probes.exact import Arrays, ExactCase, gradient, tensor, whole_bits
from xorbench.machine.probes.integers import SIGNIFICAND, entries, words
from xorbench.machine.probes.rounding import Pattern

PLACES: Final = 7  # few, so that nearly all additions collide
COLUMNS: Final = 33
SharedSum = Callable[[Tensor, Tensor], Tensor]


def _places(values: Tensor) -> Tensor:
    """The zeros that are added to, [PLACES, columns]."""
    return values.new_zeros(PLACES, values.shape[1])


def _index_add(values: Tensor, places: Tensor) -> Tensor:
    return _places(values).index_add(0, places, values)


def _scatter_add(values: Tensor, places: Tensor) -> Tensor:
    return _places(values).scatter_add(0, places[:, None].expand_as(values), values)


def _index_put(values: Tensor, places: Tensor) -> Tensor:
    return _places(values).index_put((places,), values, accumulate=True)


def _embedding(values: Tensor, places: Tensor) -> Tensor:
    """The gradient of an embedding's weight, [PLACES, columns]."""
    weight = torch.ones_like(_places(values)).requires_grad_()
    return gradient(functional.embedding(places, weight), weight, values)


SUMS: Final[dict[str, SharedSum]] = {
    "index_add": _index_add,
    "scatter_add": _scatter_add,
    "index_put, accumulated": _index_put,
    "embedding, gradient of weight": _embedding,
}


def cases() -> Iterator[ExactCase]:
    """Yield every operator for every type."""
    for dtype in ("float32", "float64", "bfloat16", "float16"):
        for name, add in SUMS.items():
            yield ExactCase(
                f"{dtype} {name}",
                dtype,
                partial(_operands, f"{dtype} {name}", dtype),
                partial(_expected, dtype),
                partial(_compute, dtype, add),
            )


def _operands(name: str, dtype: str) -> Arrays:
    """Rows of entries for which the sum of all rows is exact."""
    bits = SIGNIFICAND[dtype]
    rows = 1000 if bits >= 24 else 2 ** (bits - 2)
    most = 2 ** (bits - 1) // rows
    places = (words(f"{name}/place", 0, rows) % np.uint64(PLACES)).astype(np.int64)
    return {"x": entries(name, 0, (rows, COLUMNS), most), "places": places}


def _compute(dtype: str, add: SharedSum, arrays: Arrays, device: torch.device) -> Tensor:
    places = torch.from_numpy(arrays["places"]).to(device)
    return add(tensor(arrays["x"], dtype, device), places) + 0.0


def _expected(dtype: str, arrays: Arrays) -> Pattern:
    sums = np.zeros((PLACES, COLUMNS), dtype=np.int64)
    np.add.at(sums, arrays["places"], arrays["x"])
    return whole_bits(sums, dtype)
