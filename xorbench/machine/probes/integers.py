"""Where a probe's numbers come from, and how large they may be before something is rounded."""

from math import isqrt, prod
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from xorbench.machine.universal import spec

Whole: TypeAlias = npt.NDArray[np.int64]
"""Whole numbers, of any shape."""

SIGNIFICAND: Final = {
    "float64": 53,
    "float32": 24,
    "tf32": 11,
    "float16": 11,
    "bfloat16": 8,
    "float8_e4m3fn": 4,
    "float8_e5m2": 3,
}
"""Bits of a type's significand: whole numbers up to 2 to this power are exact in it."""


def words(name: str, seed: int, count: int) -> npt.NDArray[np.uint64]:
    """The first `count` words of the stream `probe/<name>`, [count], by SplitMix64."""
    return spec.u64(spec.key(f"probe/{name}", seed), 0, count)


def entries(name: str, seed: int, shape: tuple[int, ...], largest: int) -> Whole:
    """Uniform whole numbers of -`largest` to `largest` without zero, of the shape."""
    drawn = words(name, seed, prod(shape))
    if largest < 2**32:  # the high half of a product: quicker than a remainder
        size = drawn >> np.uint64(32)
        size *= np.uint64(largest)
        size >>= np.uint64(32)
    else:
        size = (drawn >> np.uint64(1)) % np.uint64(largest)
    size += np.uint64(1)
    return _signed(drawn, size.view(np.int64)).reshape(shape)


def _signed(drawn: npt.NDArray[np.uint64], size: Whole) -> Whole:
    """The sizes, in place, negative where the word drawn is even; quicker than `numpy.where`."""
    mask = (drawn & np.uint64(1)).view(np.int64)
    mask -= 1  # all ones where it is negative
    size ^= mask
    size -= mask
    return size


def powers(name: str, seed: int, shape: tuple[int, ...], highest: int) -> Whole:
    """Powers of two from 1 to 2^`highest`, of both signs, of the shape."""
    drawn = words(name, seed, prod(shape))
    size = np.int64(1) << ((drawn >> np.uint64(1)) % np.uint64(highest + 1)).astype(np.int64)
    return _signed(drawn, size).reshape(shape)


def scattered(name: str, seed: int, columns: int, values: Whole) -> Whole:
    """Each value in a row of its own, at most one in a column where there are as many columns.

    [rows] to [rows, columns]. What is multiplied by it is one product at a time, so its partial
    sums are never rounded.
    """
    rows = len(values)
    chosen = np.argsort(words(f"{name}/place", seed, columns), kind="stable")[:rows]
    places = chosen[np.arange(rows) % len(chosen)]
    matrix = np.zeros((rows, columns), dtype=np.int64)
    matrix[np.arange(rows), places] = values
    return matrix


def largest_entry(terms: int, limit: int, most: int) -> int:
    """The largest entry of both factors for which a sum of `terms` products stays within `limit`.

    At most `most`, the largest that the type holds. Raises `ValueError` where even 1 is too large.
    """
    largest = min(isqrt(limit // terms), most)
    if largest < 1:
        raise ValueError(f"a sum of {terms} products does not stay within {limit}")
    return largest


def permutation(name: str, seed: int, count: int) -> Whole:
    """0 to `count` - 1 in a random order, [count]."""
    return np.argsort(words(name, seed, count), kind="stable").astype(np.int64)
