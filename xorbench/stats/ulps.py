"""Distances between floating-point numbers, counted in numbers of their own type."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

SIGNED: Final = {2: "<i2", 4: "<i4", 8: "<i8"}  # little-endian, by the bytes of a number


def ranks(bits: "np.ndarray[Any, np.dtype[Any]]") -> npt.NDArray[np.int64]:
    """The place of each number among all of its type, zero at both zeros.

    `bits` are their bit patterns, little-endian. Two places are as far apart as there are numbers
    from the one to the other; subtract them as Python's whole numbers, which do not overflow.
    """
    signed = bits.view(SIGNED[bits.dtype.itemsize])
    magnitude = np.iinfo(signed.dtype).max
    return np.where(signed < 0, -(signed & magnitude).astype(np.int64), signed.astype(np.int64))
