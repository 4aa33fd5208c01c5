"""The difference of two tensors: type and shape, or elements and their distance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from xorbench.records.tensor_bytes import WIDTHS
from xorbench.records.trace import TraceEvent, damaged
from xorbench.stats.ulps import ranks

INTEGERS: Final = {
    1: "u1",
    2: "<u2",
    4: "<u4",
    8: "<u8",
}  # unsigned type by the width of an element (bytes)

FAR: Final = 1e-3  # of the largest value
HUGE, TINY = 1e20, 1e-30  # beyond these, initial values and data look like arbitrary memory

BitArray = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a tensor on both sides: values as text, bit patterns, distance in ulps.

    The distance is None for integers, and if either value is NaN.
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
    """The difference of two tensors: the first differing element, and how many differ.

    Tensors of different types or shapes are not compared by element. `far` is true if an element
    differs by more than a thousandth of the largest, `garbage` if differing values look like
    uninitialized memory.
    """

    a: TensorKind
    b: TensorKind
    differing: int = 0
    largest_ulps: int | None = None
    first: Element | None = None
    far: bool = False
    garbage: bool = False

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.a.shape)

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """Types and shapes that differ, as details."""
        pairs = (("types", self.a.dtype, self.b.dtype), ("shapes", self.a.shape, self.b.shape))
        return [(name, f"{a} and {b}") for name, a, b in pairs if a != b]


def between(
    a: TraceEvent, b: TraceEvent, bytes_a: bytes | None, bytes_b: bytes | None
) -> Difference | None:
    """The difference of two recorded tensors; None if their values were not recorded.

    Raises `BadFile` if the values do not fit the type and shape.
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
    """Compare two tensors by element; `a` and `b` are their bytes, little-endian, row-major."""
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
    sides = [_values(dtype, bits[differing]) for bits in (bits_a, bits_b)]
    values = [side.astype(np.float64) for side in sides] if "float" in dtype else []
    return Difference(
        kind, kind, len(differing), largest, first, bool(values) and _far(values), _garbage(values)
    )


def _far(sides: Sequence[npt.NDArray[np.float64]]) -> bool:
    """Whether the largest difference exceeds a thousandth of the largest value."""
    finite = np.isfinite(sides[0]) & np.isfinite(sides[1])
    a, b = (side[finite] for side in sides)
    if not a.size:
        return True
    return bool(np.abs(a - b).max() > FAR * max(np.abs(a).max(), np.abs(b).max()))


def _garbage(sides: Sequence[npt.NDArray[np.float64]]) -> bool:
    """Whether values are not finite, huge or tiny on either side, but not zero."""
    sizes = [np.abs(side) for side in sides]
    return any(
        bool((~np.isfinite(size) | (size > HUGE) | ((size > 0) & (size < TINY))).any())
        for size in sizes
    )


def _largest(dtype: str, a: BitArray, b: BitArray) -> int | None:
    """The largest distance between elements, in representable values of the type."""
    if "float" not in dtype:
        return None
    known = ~(np.isnan(_values(dtype, a)) | np.isnan(_values(dtype, b)))
    if not known.any():
        return None
    ranks_a, ranks_b = ranks(a[known]), ranks(b[known])
    # a distance may exceed 64 signed bits, but not 64 unsigned bits
    larger, smaller = np.maximum(ranks_a, ranks_b), np.minimum(ranks_a, ranks_b)
    return int(np.max(larger.view(np.uint64) - smaller.view(np.uint64)))


def _values(dtype: str, bits: BitArray) -> npt.NDArray[Any]:
    """The numbers that the bit patterns represent."""
    if dtype == "bfloat16":
        dtype, bits = "float32", bits.astype("<u4") << 16
    return bits.view(np.dtype(dtype).newbyteorder("<"))


def _text(dtype: str, bits: BitArray) -> str:
    value = _values(dtype, bits)[0].item()
    return f"{value:.9g}" if isinstance(value, float) else str(value)
