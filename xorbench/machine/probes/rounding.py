"""Rounding to nearest even by integer arithmetic, independent of any floating-point conversion.

A number is an integer `m` times 2 to the power `e`; a format's bits have its usual layout.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from xorbench.machine.probes.integers import Whole

Pattern = npt.NDArray[np.uint64]
"""Bit patterns of any format, of any shape."""


class Format(NamedTuple):
    """The layout of a binary floating-point type, as in IEEE 754 and OCP FP8.

    `finite`: the largest exponent encodes numbers and one NaN instead of infinities (e4m3fn).
    """

    name: str
    exponent: int
    fraction: int
    finite: bool = False

    @property
    def width(self) -> int:
        """Bits of a number."""
        return 1 + self.exponent + self.fraction

    @property
    def bias(self) -> int:
        """The offset of a stored exponent."""
        return int(2 ** (self.exponent - 1)) - 1

    @property
    def largest(self) -> int:
        """The bits of the largest finite number."""
        top = (1 << (self.exponent + self.fraction)) - 1
        return top - 1 if self.finite else top - (1 << self.fraction)


FORMATS: Final = {
    kind.name: kind
    for kind in (
        Format("float64", 11, 52),
        Format("float32", 8, 23),
        Format("float16", 5, 10),
        Format("bfloat16", 8, 7),
        Format("float8_e4m3fn", 4, 3, finite=True),
        Format("float8_e5m2", 5, 2),
    )
}


def rounded(m: Whole, e: Whole | int, kind: Format) -> Pattern:
    """The bits of m · 2^e in a format, rounded to nearest even; |m| below 2^62.

    A number that is too large gives infinity, or NaN in a format without infinity. Zero is +0; a
    negative number that is too small is -0.
    """
    size = np.abs(m)
    length = bit_length(size)
    # The exponent of the last place, of a normal number or of the smallest subnormal one.
    last = np.maximum(length + e - (kind.fraction + 1), 1 - kind.bias - kind.fraction)
    shift = np.clip(last - e, -62, 63)
    down = np.maximum(shift, 0)
    whole = np.where(down < 63, size >> np.minimum(down, 62), 0)
    rest = size - (whole << np.minimum(down, 62)) * (down < 63)
    half = np.where(down > 0, np.int64(1) << np.clip(down - 1, 0, 62), 0)
    up = (down > 0) & ((rest > half) | ((rest == half) & (whole & 1 == 1)))
    whole = np.where(shift < 0, size << np.clip(-shift, 0, 62), whole + up)
    return _packed(whole, last, m < 0, kind)


def _packed(whole: Whole, last: Whole, negative: npt.NDArray[np.bool_], kind: Format) -> Pattern:
    """The bits of whole · 2^last; a carry out of the significand raises the exponent."""
    field = last + kind.bias + kind.fraction - 1  # of a number with its implicit bit set
    normal = whole >= 1 << kind.fraction
    bits = np.where(normal, (field << kind.fraction) + whole, whole)
    bits = np.where(whole == 0, 0, bits)
    over = kind.largest + 1
    bits = np.where(bits > kind.largest, over, bits)
    sign = negative.astype(np.uint64) << np.uint64(kind.width - 1)
    return bits.astype(np.uint64) | sign


def decoded(bits: Pattern, kind: Format) -> tuple[Whole, Whole]:
    """Integers `m` and powers `e` with the values m · 2^e of finite bit patterns."""
    field = ((bits >> np.uint64(kind.fraction)) & np.uint64((1 << kind.exponent) - 1)).astype(
        np.int64
    )
    fraction = (bits & np.uint64((1 << kind.fraction) - 1)).astype(np.int64)
    m = np.where(field > 0, fraction + (1 << kind.fraction), fraction)
    negative = (bits >> np.uint64(kind.width - 1)) & np.uint64(1) == 1
    return np.where(negative, -m, m), np.maximum(field, 1) - kind.bias - kind.fraction


def bit_length(size: Whole) -> Whole:
    """The number of bits of a nonnegative number below 2^62."""
    high, low = size >> 31, size & (2**31 - 1)  # each exact in float64
    lengths = [np.frexp(part.astype(np.float64))[1].astype(np.int64) for part in (high, low)]
    return np.where(high > 0, lengths[0] + 31, lengths[1])


def finite(kind: Format) -> Pattern:
    """Every finite bit pattern of a format of at most 16 bits, with both signs."""
    positive = np.arange(kind.largest + 1, dtype=np.uint64)
    return np.concatenate([positive, positive | np.uint64(1 << (kind.width - 1))])
