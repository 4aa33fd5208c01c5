"""Conversions between types: every value of the narrow types, and every rounding boundary."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np
import torch
from torch import Tensor

from xorbench.machine.probes.exact import Arrays, ExactCase, from_bits, torch_type, whole_bits
from xorbench.machine.probes.integers import words
from xorbench.machine.probes.rounding import FORMATS, Format, Pattern, decoded, finite, rounded

NARROW: Final = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
FLOAT32: Final = FORMATS["float32"]
FLOAT64: Final = FORMATS["float64"]


def cases() -> Iterator[ExactCase]:
    """Yield every conversion."""
    for name in NARROW:
        kind = FORMATS[name]
        yield _float(f"{name} to float32", name, "float32", partial(_all, kind))
        yield _float(f"float32 to {name}", "float32", name, partial(_boundaries, kind))
    yield _float("float64 to float32", "float64", "float32", _double_boundaries)
    yield _float("float32 to float64", "float32", "float64", _random)
    for source in ("int32", "int64"):
        for target in ("float32", "float64"):
            yield _from_whole(source, target)
    yield _to_whole()


def _float(name: str, source: str, target: str, make: Callable[[], Arrays]) -> ExactCase:
    def expected(arrays: Arrays) -> Pattern:
        given = arrays["x"].view(np.uint64)
        m, e = decoded(given, FORMATS[source])
        sign = given >> np.uint64(FORMATS[source].width - 1)
        zero = sign << np.uint64(FORMATS[target].width - 1)  # -0 stays -0
        return np.where(m == 0, zero, rounded(m, e, FORMATS[target]))

    def compute(arrays: Arrays, device: torch.device) -> Tensor:
        return from_bits(arrays["x"].view(np.uint64), source).to(device).to(torch_type(target))

    return ExactCase(name, target, make, expected, compute)


def _from_whole(source: str, target: str) -> ExactCase:
    """Integers of up to 30 or 61 bits, which exceed a significand."""
    shift = np.uint64(33 if source == "int32" else 3)
    name = f"{source} to {target}"

    def make() -> Arrays:
        random = words(name, 0, 4097)
        sizes = (random >> shift >> (random % np.uint64(31))).astype(np.int64)
        ties = (np.int64(1) << np.arange(2, 30, dtype=np.int64)) * 3 + 1
        return {"x": np.concatenate([sizes, -sizes, ties % 2**30, -(ties % 2**30)])}

    return ExactCase(
        name,
        target,
        make,
        lambda arrays: whole_bits(arrays["x"], target),
        lambda arrays, device: (
            torch.from_numpy(arrays["x"]).to(torch_type(source)).to(device).to(torch_type(target))
        ),
    )


def _to_whole() -> ExactCase:
    """Truncation towards zero of fixed-point numbers with 24 bits, 3 of them fractional."""

    def make() -> Arrays:
        random = (words("float32 to int32", 0, 4097) >> np.uint64(40)).astype(np.int64)
        return {"x": np.concatenate([random, -random])}

    def expected(arrays: Arrays) -> Pattern:
        return whole_bits(np.sign(arrays["x"]) * (np.abs(arrays["x"]) >> 3), "int32")

    def compute(arrays: Arrays, device: torch.device) -> Tensor:
        eighths = torch.from_numpy(arrays["x"]).to(torch.float32).to(device) * 0.125
        return eighths.to(torch.int32)

    return ExactCase("float32 to int32", "int32", make, expected, compute)


def _all(kind: Format) -> Arrays:
    return {"x": finite(kind).view(np.int64)}


def _boundaries(kind: Format) -> Arrays:
    """The midpoint of every two neighbours, and the float32 numbers below and above it.

    Values beyond the largest finite float8 are excluded, since types differ in their handling.
    """
    positive = np.arange(kind.largest, dtype=np.uint64)  # excludes the largest
    low, low_e = decoded(positive, kind)
    high, high_e = decoded(positive + np.uint64(1), kind)
    e = np.minimum(low_e, high_e) - 1
    middle = (low << (low_e - e)) + (high << (high_e - e)) >> 1
    return _both_signs(_neighbours(rounded(middle, e, FLOAT32)), FLOAT32)


def _double_boundaries() -> Arrays:
    """Midpoints after random float32 numbers, and the float64 numbers below and above them."""
    m, e = decoded(_spread("float64 to float32"), FLOAT32)
    middle = rounded(2 * m + 1, e - 1, FLOAT64)
    return _both_signs(_neighbours(middle), FLOAT64)


def _random() -> Arrays:
    return _both_signs(_spread("float32 to float64"), FLOAT32)


def _spread(name: str) -> Pattern:
    """Random positive float32 numbers."""
    return (words(name, 0, 4097) >> np.uint64(33)) % np.uint64(FLOAT32.largest)


def _neighbours(bits: Pattern) -> Pattern:
    """The next lower numbers, the numbers, and the next higher numbers."""
    return np.concatenate([bits - np.uint64(1), bits, bits + np.uint64(1)])


def _both_signs(bits: Pattern, kind: Format) -> Arrays:
    negative = bits | np.uint64(1 << (kind.width - 1))
    return {"x": np.concatenate([bits, negative]).view(np.int64)}
