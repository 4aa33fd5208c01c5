"""SHA-256 of named tensors such as a `state_dict`, which identifies weights.

`state_digest` computes it from bytes. The recorder's 64-bit fingerprint is a different function.
"""

import sys
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from xorbench import state_digest


def sha256(entries: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 over name, dtype, shape and little-endian bytes of each entry (workload.md §4)."""
    return state_digest.sha256((n, dtype_name(t), t.shape, raw_bytes(t)) for n, t in entries)


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """The digest of a `state_dict`, in its own order."""
    return sha256(state.items())


def dtype_name(tensor: Tensor) -> str:
    """The short name, such as `float32`."""
    return str(tensor.dtype).removeprefix("torch.")


def raw_bytes(tensor: Tensor) -> bytes:
    """The values as little-endian bytes, row-major, from any device."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    if sys.byteorder == "big":
        flat = flat.reshape(-1, tensor.element_size())[:, ::-1]
    return flat.tobytes()


def record(tensor: Tensor) -> dict[str, object]:
    """The record of a tensor: dtype, shape, little-endian bytes in hex."""
    return {
        "dtype": dtype_name(tensor),
        "shape": list(tensor.shape),
        "hex": raw_bytes(tensor).hex(),
    }
