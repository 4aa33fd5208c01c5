"""The states of the global random generators, as digests."""

from __future__ import annotations

import ctypes
import hashlib
import random
import sys
from array import array
from collections.abc import Iterator
from typing import Any

import torch


def states() -> Iterator[tuple[str, str]]:
    """The name and the digest of each global generator of this process.

    Python's, NumPy's where it is imported, PyTorch's of the CPU and of each device in use.
    """
    _, words, gauss = random.getstate()
    yield "python", short(array("I", words).tobytes() + repr(gauss).encode())
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "random"):
        name, keys, *rest = numpy.random.get_state()
        yield "numpy", short(keys.tobytes() + repr((name, rest)).encode())
    yield "torch cpu", short(_bytes(torch.get_rng_state()))
    for kind in ("cuda", "xpu", "mps"):
        device: Any = getattr(torch, kind)
        if kind == "mps":
            ready = torch.backends.mps.is_available() and "torch.mps" in sys.modules
            if ready:
                yield "torch mps", short(_bytes(torch.mps.get_rng_state()))
        elif device.is_initialized():
            for index in range(device.device_count()):
                yield f"torch {kind}:{index}", short(_bytes(device.get_rng_state(index)))


def short(data: bytes) -> str:
    """A digest of bytes in 16 hex digits."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _bytes(state: torch.Tensor) -> bytes:
    return ctypes.string_at(state.data_ptr(), state.numel())
