"""The states of the global random generators, as digests."""

from __future__ import annotations

import ctypes
import hashlib
import random
import sys
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import torch


def states() -> Iterator[tuple[str, str]]:
    """The name and the digest of each global generator of this process.

    These are Python's, NumPy's if it is imported, and PyTorch's of the CPU and each device in use.
    """
    yield from _state("python", _python)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "random"):
        yield from _state("numpy", lambda: short(_plain(numpy.random.get_state(legacy=False))))
    yield "torch cpu", short(_bytes(torch.get_rng_state()))
    if torch.backends.mps.is_available() and "torch.mps" in sys.modules:
        yield from _state("torch mps", lambda: short(_bytes(torch.mps.get_rng_state())))
    for kind in ("cuda", "xpu", torch._C._get_privateuse1_backend_name()):
        device: Any = getattr(torch, kind, None)
        if hasattr(device, "get_rng_state") and device.is_initialized():
            for index in range(device.device_count()):
                yield from _state(f"torch {kind}:{index}", _device_state(device, index))


def _device_state(device: Any, index: int) -> Callable[[], str]:
    return lambda: short(_bytes(device.get_rng_state(index)))


def _state(name: str, read: Callable[[], str]) -> Iterator[tuple[str, str]]:
    """One generator, if its state can be read: a program may replace the generator."""
    try:
        yield name, read()
    except Exception:
        return


def _python() -> str:
    _, words, gauss = random.getstate()
    return short(array("I", words).tobytes() + repr(gauss).encode())


def _plain(state: Any) -> bytes:
    """The bytes of NumPy's state: a dictionary of dictionaries, arrays and numbers."""
    if isinstance(state, dict):
        return b"".join(key.encode() + _plain(state[key]) for key in sorted(state))
    return bytes(state.tobytes()) if hasattr(state, "tobytes") else repr(state).encode()


def short(data: bytes) -> str:
    """A digest of bytes in 16 hex digits."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _bytes(state: torch.Tensor) -> bytes:
    return ctypes.string_at(state.data_ptr(), state.numel())
