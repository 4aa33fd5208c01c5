"""Recorded weights: their values, their digest, and the distance of two sets."""

from collections.abc import Mapping

import numpy as np

from xorbench import state_digest
from xorbench.records.schema.training import WeightRecord


def largest_difference(
    a: Mapping[str, WeightRecord] | None, b: Mapping[str, WeightRecord] | None
) -> str:
    """The largest difference of two sets of weights, as text."""
    if a is None or b is None:
        return "the weights are too large to store"
    gaps = {
        key: float(np.max(np.abs(values_of(a[key]) - values_of(b[key])), initial=0.0)) for key in a
    }
    widest = max(gaps, key=lambda key: gaps[key])
    return f"largest weight difference {gaps[widest]:.2g} ({widest})"


def values_of(weight: WeightRecord) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The recorded values, flat, as float64."""
    little_endian = np.dtype(weight.dtype).newbyteorder("<")
    return np.frombuffer(bytes.fromhex(weight.hex), little_endian).astype(np.float64)


def sha256_of(weights: Mapping[str, WeightRecord]) -> str:
    """The digest of recorded weights (workload.md §4), made without torch."""
    return state_digest.sha256(
        (name, w.dtype, w.shape, bytes.fromhex(w.hex)) for name, w in weights.items()
    )
