"""Matrix products of integers: each input type, layout and batched form."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xorbench.machine.probes.exact import (
    Arrays,
    ExactCase,
    exact_settings,
    gradient,
    tensor,
    whole_bits,
)
from xorbench.machine.probes.integers import Whole, entries, largest_entry, powers, scattered, words
from xorbench.machine.probes.rounding import Pattern

SUMMED: Final = {
    "float64": 53,
    "float32": 24,
    "tf32": 24,
    "float16": 11,
    "bfloat16": 8,
    "float8_e4m3fn": 13,
    "float8_e5m2": 13,
    "int8": 31,
}
"""Partial sums are below 2 to this power, so that they are exact in the type that stores them."""
FULL: Final = {
    "float64": (2**26, 2**26),
    "float32": (2**12, 2**12),
    "tf32": (2**11, 2**11),
    "float16": (2**11 - 1, 31),  # the product must not exceed 65,504
    "bfloat16": (2**8, 2**8),
    "float8_e4m3fn": (16, 16),
    "float8_e5m2": (8, 8),
    "int8": (127, 127),
}
"""The largest entries of both factors for results with a single term."""
SINGLE: Final = {"float64": (2**53 - 1, 3), "float32": (2**24 - 1, 3), "float16": (2**11 - 1, 5)}
"""The largest entry of one factor, and the highest power of two in the other. This exercises every
bit of a significand on either side; for narrower types `FULL` does."""
KINDS: Final = ("dense", "sparse", "left", "right")
"""Sums of many small products; single products of half significands; single products of full
significands on the left or right with a power of two on the opposite side."""
TERMS: Final = 64  # terms of a sum in a type too narrow for all terms


@dataclass(frozen=True)
class Multiply:
    """A product of left [*, M, K] and right [*, K, N], with an optional addend."""

    name: str
    compute: Callable[[Tensor, Tensor, Tensor], Tensor]
    batch: int = 0
    addend: str = ""  # "matrix", "row" or ""


def _input_gradient(left: Tensor, right: Tensor, _addend: Tensor) -> Tensor:
    """A backward product of `Linear`: output gradient [M, K] times weight [K, N]."""
    inputs = left.new_ones(left.shape[0], right.shape[1]).requires_grad_()
    return gradient(functional.linear(inputs, right), inputs, left)


def _weight_gradient(left: Tensor, right: Tensor, _addend: Tensor) -> Tensor:
    """A backward product of `Linear`: transposed output gradient times input."""
    weight = left.new_ones(left.shape[0], right.shape[1]).requires_grad_()
    return gradient(functional.linear(right, weight), weight, left.t().contiguous())


MULTIPLIES: Final = (
    Multiply("mm", lambda a, b, _: torch.mm(a, b)),
    Multiply("mm, left transposed", lambda a, b, _: torch.mm(a.t().contiguous().t(), b)),
    Multiply("mm, right transposed", lambda a, b, _: torch.mm(a, b.t().contiguous().t())),
    Multiply("addmm", lambda a, b, c: torch.addmm(c, a, b), addend="matrix"),
    Multiply("bmm", lambda a, b, _: torch.bmm(a, b), batch=3),
    Multiply("baddbmm", lambda a, b, c: torch.baddbmm(c, a, b), batch=3, addend="matrix"),
    Multiply("linear", lambda a, b, c: functional.linear(a, b.t().contiguous(), c), addend="row"),
    Multiply("linear, gradient of input", _input_gradient),
    Multiply("linear, gradient of weight", _weight_gradient),
)
SHAPES: Final = ((31, 127, 7), (7, 4097, 31), (1, 4097, 127), (127, 1, 127), (160, 256, 104))
"""M, K and N: odd, long and thin shapes, and one that fills the tiles of a matrix unit."""


def cases() -> Iterator[ExactCase]:
    """Yield every product."""
    for dtype in ("float32", "float64", "bfloat16", "float16", "tf32"):
        for multiply in MULTIPLIES:
            for shape in SHAPES if multiply.name in ("mm", "linear") else SHAPES[:1]:
                for kind in kinds(dtype, multiply.addend or shape != SHAPES[0]):
                    yield _case(dtype, multiply, shape, kind)
    for kind in ("dense", "sparse"):
        yield _case("int8", Multiply("int_mm", _int8), (32, 256, 24), kind, "int32")
        for dtype in ("float8_e4m3fn", "float8_e5m2"):
            right = {"float8_e5m2": "float8_e4m3fn"}.get(dtype, dtype)  # no kernel for two e5m2
            multiply = Multiply("scaled_mm", partial(_float8, left=dtype, right=right))
            yield _case(dtype, multiply, (32, 64, 48), kind, "float32")


def kinds(dtype: str, few: object = False) -> tuple[str, ...]:
    """The kinds of entries of a type; `few` excludes full significands."""
    return KINDS[:2] if few or dtype not in SINGLE else KINDS


def _case(
    dtype: str, multiply: Multiply, shape: tuple[int, int, int], kind: str, wider: str = ""
) -> ExactCase:
    """One product; with a `wider` result type, the product itself narrows the operands."""
    name = f"{dtype} {kind} {multiply.name} {'×'.join(map(str, shape))}"
    result = wider or ("float32" if dtype == "tf32" else dtype)

    def compute(arrays: Arrays, device: torch.device) -> Tensor:
        operand_type = "int64" if wider else result
        with exact_settings(tf32=dtype == "tf32"):
            product = multiply.compute(
                *(tensor(arrays[key], operand_type, device) for key in "abc")
            )
            return product + 0  # a sum of zeros may have either sign

    return ExactCase(
        name,
        result,
        partial(_operands, name, dtype, multiply, shape, kind),
        partial(_expected, result),
        compute,
        partial(_no_tf32, dtype),
    )


def _int8(a: Tensor, b: Tensor, _addend: Tensor) -> Tensor:
    return torch._int_mm(a.to(torch.int8), b.to(torch.int8))


def _float8(a: Tensor, b: Tensor, _addend: Tensor, *, left: str, right: str) -> Tensor:
    """A product of float8 with scales of one; kernels require the right factor transposed."""
    scale = torch.ones((), device=a.device)
    return torch._scaled_mm(
        a.float().to(getattr(torch, left)),
        b.float().to(getattr(torch, right)).t().contiguous().t(),
        scale_a=scale,
        scale_b=scale,
        out_dtype=torch.float32,
        use_fast_accum=False,
    )


def _no_tf32(dtype: str, device: torch.device) -> str:
    if dtype == "tf32" and device.type != "cuda":
        return "TF32 is a type of CUDA devices"
    return ""


def _operands(
    name: str, dtype: str, multiply: Multiply, shape: tuple[int, int, int], kind: str
) -> Arrays:
    """Left, right and addend for which every partial sum is exact."""
    m, k, n = shape
    lead = (multiply.batch,) if multiply.batch else ()
    bits = SUMMED[dtype]
    limit = 2 ** (bits - 1) if multiply.addend else 2**bits
    addend_shape = {"matrix": (*lead, m, n), "row": (n,), "": (1,)}[multiply.addend]
    if kind != "dense":
        pairs = [
            single_terms(f"{name}/{i}", dtype, kind, shape) for i in range(multiply.batch or 1)
        ]
        a, b = (np.stack(parts) if lead else parts[0] for parts in zip(*pairs, strict=True))
        addend_most = 1
        if multiply.addend:  # the sum of a product and an addend must be exact
            a, b, addend_most = np.sign(a), np.sign(b) * (abs(b) % (limit // 2) + 1), limit // 2
    else:
        terms = k if k <= limit // 4 else min(TERMS, limit // 4)
        most = largest_entry(terms, limit, min(FULL[dtype]))
        a = _thinned(name, entries(f"{name}/a", 0, (*lead, m, k), most), terms)
        b = entries(f"{name}/b", 0, (*lead, k, n), most)
        addend_most = limit
    c = entries(f"{name}/c", 0, addend_shape, addend_most)
    return {"a": a, "b": b, "c": c if multiply.addend else np.zeros_like(c)}


def single_terms(
    name: str, dtype: str, kind: str, shape: tuple[int, int, int]
) -> tuple[Whole, Whole]:
    """Left [M, K] with one entry per row, and right [K, N]: every sum has a single term."""
    m, k, n = shape
    shapes = {"left": (m,), "right": (k, n)}
    if kind == "sparse":
        mosts = dict(zip(shapes, FULL[dtype], strict=True))
        sides = {side: entries(f"{name}/{side}", 0, shapes[side], mosts[side]) for side in shapes}
    else:
        most, highest = SINGLE[dtype]
        opposite = "right" if kind == "left" else "left"
        sides = {
            kind: entries(f"{name}/{kind}", 0, shapes[kind], most),
            opposite: powers(f"{name}/{opposite}", 0, shapes[opposite], highest),
        }
    return scattered(name, 0, k, sides["left"]), sides["right"]


def _thinned(name: str, a: Whole, terms: int) -> Whole:
    """The left factor with `terms` entries per row, evenly spaced from a random column."""
    k = a.shape[-1]
    if terms >= k:
        return a
    lines = np.prod(a.shape[:-1], dtype=np.int64)
    first = (words(f"{name}/kept", 0, int(lines)) % np.uint64(k)).astype(np.int64)
    columns = (first[:, None] + np.arange(terms) * (k // terms)) % k
    mask = np.zeros((int(lines), k), dtype=np.int64)
    np.put_along_axis(mask, columns, 1, axis=-1)
    return a * mask.reshape(a.shape)


def _expected(result: str, arrays: Arrays) -> Pattern:
    product = np.matmul(arrays["a"], arrays["b"])
    return whole_bits(product + (arrays["c"] if arrays["c"].any() else 0), result)
