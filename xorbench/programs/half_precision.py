"""Whether weights equal the weights of a step rounded to half precision."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]


def _as_float16(values: Float32Array) -> Float32Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def _as_bfloat16(values: Float32Array) -> Float32Array:
    """Round to nearest, ties to even (IEEE 754)."""
    bits = values.view(np.uint32).astype(np.uint64)
    upper = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return upper.astype(np.uint32).view(np.float32)


HALVES: Final[dict[str, Callable[[Float32Array], Float32Array]]] = {
    "float16": _as_float16,
    "bfloat16": _as_bfloat16,
}


def rounded(
    expected: Mapping[str, tuple[str, bytes]], actual: Mapping[str, tuple[str, bytes]]
) -> str:
    """The half precision that rounds the expected weights to the actual weights; else empty.

    Some weights may be saved without rounding, but at least one is rounded. Both mappings hold type
    and bytes, little-endian, by identity.
    """
    common = [key for key in expected if key in actual]
    pairs = [(_values(*expected[key]), _values(*actual[key])) for key in common]
    if any(a is None or b is None or a.shape != b.shape for a, b in pairs):
        return ""
    differing = [(a, b) for a, b in pairs if not np.array_equal(a, b)]
    for name, as_half in HALVES.items():
        if differing and all(np.array_equal(as_half(a), b) for a, b in differing):
            return name
    return ""


def _values(dtype: str, data: bytes) -> Any:
    if dtype == "float32":
        return np.frombuffer(data, "<f4")
    if dtype == "float16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return None
