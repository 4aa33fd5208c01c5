"""Digests of tensors: a permuted, negated or re-typed tensor gives another one."""

import hashlib
import sys
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def sha256(entries: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 over name, dtype, shape and little-endian bytes of each entry (workload.md §4)."""
    digest = hashlib.sha256()
    for name, tensor in entries:
        shape = ",".join(map(str, tensor.shape))
        digest.update(f"{name}\0{dtype_name(tensor)}\0{shape}\0".encode())
        digest.update(raw_bytes(tensor))
    return digest.hexdigest()


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """The digest of a `state_dict`, in its own order."""
    return sha256(state.items())


def dtype_name(tensor: Tensor) -> str:
    """The short name, such as `float32`."""
    return str(tensor.dtype).removeprefix("torch.")


def raw_bytes(tensor: Tensor) -> bytes:
    """The values as little-endian bytes, row-major, from whatever device."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    if sys.byteorder == "big":
        flat = flat.reshape(-1, tensor.element_size())[:, ::-1]
    return flat.tobytes()
