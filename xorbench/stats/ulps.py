"""Distances between floating-point numbers, counted in representable numbers of their type."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

SIGNED: Final = {2: "<i2", 4: "<i4", 8: "<i8"}  # little-endian, by the bytes of a number


def ranks(bits: "np.ndarray[Any, np.dtype[Any]]") -> npt.NDArray[np.int64]:
    """The rank of each number among all numbers of its type; both zeros have rank 0.

    `bits` are the bit patterns, little-endian. The difference of two ranks is the number of
    representable numbers between them. Subtract ranks as Python integers, which do not overflow.
    """
    signed = bits.view(SIGNED[bits.dtype.itemsize])
    magnitude = np.iinfo(signed.dtype).max
    return np.where(signed < 0, -(signed & magnitude).astype(np.int64), signed.astype(np.int64))
