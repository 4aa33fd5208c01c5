"""How two tensors differ: in type and shape, or which elements, and by how much."""

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from xorbench.records.tensor_bytes import WIDTHS
from xorbench.records.trace import TraceEvent, damaged
from xorbench.stats.ulps import ranks

INTEGERS: Final = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"}  # an element's bits, by its bytes

BitArray = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a tensor on both sides: values as texts, bit patterns, distance in ulps.

    The distance is None where one of them is not a number, the difference for whole numbers.
    """

    index: list[int]
    a: str
    b: str
    a_bits: str
    b_bits: str
    ulps: int | None


class TensorKind(NamedTuple):
    """The type and the shape of a tensor."""

    dtype: str
    shape: list[int]


@dataclass(frozen=True, slots=True)
class Difference:
    """How two tensors differ: the first element that does, and how many of them do.

    Where they are of two kinds no element is compared.
    """

    a: TensorKind
    b: TensorKind
    differing: int = 0
    largest_ulps: int | None = None
    first: Element | None = None

    @property
    def elements(self) -> int:
        """How many elements the tensor has."""
        return math.prod(self.a.shape)

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """Types and shapes as details, where they are not the same."""
        pairs = (("types", self.a.dtype, self.b.dtype), ("shapes", self.a.shape, self.b.shape))
        return [(name, f"{a} and {b}") for name, a, b in pairs if a != b]


def between(
    a: TraceEvent, b: TraceEvent, bytes_a: bytes | None, bytes_b: bytes | None
) -> Difference | None:
    """How two tensors of traces differ; None where their values were not kept.

    Raises `BadFile` where the values are none of such a type and shape.
    """
    if a.more.shape is None or b.more.shape is None:
        return None
    kinds = TensorKind(a.more.dtype, a.more.shape), TensorKind(b.more.dtype, b.more.shape)
    if kinds[0] != kinds[1]:
        return Difference(*kinds)
    if bytes_a is None or bytes_b is None:
        return None
    try:
        return _difference(kinds[0], bytes_a, bytes_b)
    except (KeyError, ValueError):
        raise damaged(a) from None


def _difference(kind: TensorKind, a: bytes, b: bytes) -> Difference:
    """Two tensors element by element; `a` and `b` are their bytes, little-endian, row-major."""
    dtype, shape = kind
    bits_a, bits_b = (np.frombuffer(side, INTEGERS[WIDTHS[dtype]]) for side in (a, b))
    differing = np.flatnonzero(bits_a != bits_b)
    if not differing.size:
        return Difference(kind, kind, 0, 0)
    place = int(differing[0])
    digits = 2 * WIDTHS[dtype]
    first = Element(
        [int(i) for i in np.unravel_index(place, shape)] if shape else [],
        _text(dtype, bits_a[place : place + 1]),
        _text(dtype, bits_b[place : place + 1]),
        f"0x{int(bits_a[place]):0{digits}x}",
        f"0x{int(bits_b[place]):0{digits}x}",
        _largest(dtype, bits_a[place : place + 1], bits_b[place : place + 1]),
    )
    largest = _largest(dtype, bits_a[differing], bits_b[differing])
    return Difference(kind, kind, len(differing), largest, first)


def _largest(dtype: str, a: BitArray, b: BitArray) -> int | None:
    """The largest distance between elements: how many numbers of the type lie between them."""
    if "float" not in dtype:
        pairs = zip(_values(dtype, a).tolist(), _values(dtype, b).tolist(), strict=True)
        return max(abs(int(x) - int(y)) for x, y in pairs)
    known = ~(np.isnan(_values(dtype, a)) | np.isnan(_values(dtype, b)))
    if not known.any():
        return None
    ranks_a, ranks_b = ranks(a[known]), ranks(b[known])
    # the distance of two numbers may not fit 64 signed bits; it fits the unsigned ones
    larger, smaller = np.maximum(ranks_a, ranks_b), np.minimum(ranks_a, ranks_b)
    return int((larger.view(np.uint64) - smaller.view(np.uint64)).max())


def _values(dtype: str, bits: BitArray) -> npt.NDArray[Any]:
    """The numbers that bit patterns stand for."""
    if dtype == "bfloat16":
        dtype, bits = "float32", bits.astype("<u4") << 16
    return bits.view(np.dtype(dtype).newbyteorder("<"))


def _text(dtype: str, bits: BitArray) -> str:
    value = _values(dtype, bits)[0].item()
    return f"{value:.9g}" if isinstance(value, float) else str(value)
