"""The random integers of the probes, and their limits for exact results."""

from math import isqrt, prod
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from xorbench.machine.universal import spec

Whole: TypeAlias = npt.NDArray[np.int64]
"""Integers of any shape."""

SIGNIFICAND: Final = {
    "float64": 53,
    "float32": 24,
    "tf32": 11,
    "float16": 11,
    "bfloat16": 8,
    "float8_e4m3fn": 4,
    "float8_e5m2": 3,
}
"""Bits of a type's significand: integers up to 2 to this power are exact in it."""


def words(name: str, seed: int, count: int) -> npt.NDArray[np.uint64]:
    """The first `count` words of the stream `probe/<name>`, [count], by SplitMix64."""
    return spec.u64(spec.key(f"probe/{name}", seed), 0, count)


def entries(name: str, seed: int, shape: tuple[int, ...], largest: int) -> Whole:
    """Uniform integers from -`largest` to `largest` without zero."""
    random = words(name, seed, prod(shape))
    if largest < 2**32:  # the high half of a product is faster than a remainder
        size = random >> np.uint64(32)
        size *= np.uint64(largest)
        size >>= np.uint64(32)
    else:
        size = (random >> np.uint64(1)) % np.uint64(largest)
    size += np.uint64(1)
    return _signed(random, size.view(np.int64)).reshape(shape)


def _signed(random: npt.NDArray[np.uint64], size: Whole) -> Whole:
    """Negate the sizes in place where the random word is even; faster than `numpy.where`."""
    mask = (random & np.uint64(1)).view(np.int64)
    mask -= 1  # all ones for negative numbers
    size ^= mask
    size -= mask
    return size


def powers(name: str, seed: int, shape: tuple[int, ...], highest: int) -> Whole:
    """Powers of two from 1 to 2^`highest`, of both signs."""
    random = words(name, seed, prod(shape))
    size = np.int64(1) << ((random >> np.uint64(1)) % np.uint64(highest + 1)).astype(np.int64)
    return _signed(random, size).reshape(shape)


def scattered(name: str, seed: int, columns: int, values: Whole) -> Whole:
    """A matrix with one value per row, and at most one per column if there are enough columns.

    [rows] to [rows, columns]. Every element of a product with it is a single term, so partial sums
    are never rounded.
    """
    rows = len(values)
    chosen = np.argsort(words(f"{name}/place", seed, columns), kind="stable")[:rows]
    places = chosen[np.arange(rows) % len(chosen)]
    matrix = np.zeros((rows, columns), dtype=np.int64)
    matrix[np.arange(rows), places] = values
    return matrix


def largest_entry(terms: int, limit: int, most: int) -> int:
    """The largest entry of both factors for which a sum of `terms` products is within `limit`.

    At most `most`, the largest entry of the type. Raises `ValueError` if 1 is too large.
    """
    largest = min(isqrt(limit // terms), most)
    if largest < 1:
        raise ValueError(f"a sum of {terms} products exceeds {limit}")
    return largest


def permutation(name: str, seed: int, count: int) -> Whole:
    """0 to `count` - 1 in a random order, [count]."""
    return np.argsort(words(name, seed, count), kind="stable").astype(np.int64)
