"""Sketches of tensors: 251 sums of signed elements, from which the norm of a difference follows.

Element i of the whole tensor, in logical order, is added to sum i % 251 with a sign that depends
only on i. So a sketch is linear: the sketches of shards and of partial sums add up to that of the
whole. Its norm is that of the tensor within about 4%, and exact for up to 251 elements.

Source: N. Alon, Y. Matias, M. Szegedy: The space complexity of approximating the frequency moments
(1996).
"""

from __future__ import annotations

import base64
import ctypes
import threading
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .fingerprint import DigestPart, NotRecorded, dense_parts, mix

NAME = "signed251-sampled65536"
BUCKETS = 251  # a prime, so that no row length of a tensor is a multiple of it
PIECE = 60 * BUCKETS  # elements whose signs are consecutive in the table
TABLE = 1 << 18  # signs; each piece uses a different part of them
MOST_KNOWN = 1 << 11  # sketches: 6 MB
LEAST_SAMPLED = 1 << 16  # elements of a sample
PIECES = 8  # summed at once: they stay in the cache and need no fresh pages


@lru_cache(maxsize=8)
def _signs(device: torch.device) -> Tensor:
    bits = [mix(word) >> bit & 1 for word in range(TABLE // 64) for bit in range(64)]
    return torch.tensor(bits, dtype=torch.float64).mul_(2).sub_(1).to(device)


def _start(piece: int) -> int:
    """The position in the table of the first sign of a piece."""
    return mix(piece ^ 0x5BD1E995) % (TABLE - PIECE)


@lru_cache(maxsize=8)
def _buffers(device: torch.device, _thread: int) -> tuple[Tensor, Tensor]:
    """Room for the signed elements of a block, and a factor 1 for each of its rows."""
    count = PIECES * PIECE
    return (
        torch.empty(count, dtype=torch.float64, device=device),
        torch.ones(count // BUCKETS, dtype=torch.float64, device=device),
    )


def sketch(tensor: Tensor) -> Tensor:
    """The 251 sums, as float64 on the tensor's device; raises `NotRecorded`."""
    flat = _plain(tensor).reshape(-1)
    total = torch.zeros(BUCKETS, dtype=torch.float64, device=flat.device)
    signs = _signs(flat.device)
    buffer, ones = _buffers(flat.device, threading.get_ident())
    for block, part in enumerate(flat.split(PIECES * PIECE) if flat.numel() else ()):
        for piece, terms in enumerate(part.split(PIECE)):  # too short for several threads
            start, count = _start(block * PIECES + piece), terms.numel()
            place = piece * PIECE
            buffer[place : place + count].copy_(terms).mul_(signs[start : start + count])
        rows = -(-part.numel() // BUCKETS)
        buffer[part.numel() : rows * BUCKETS].zero_()
        total.addmv_(buffer[: rows * BUCKETS].view(rows, BUCKETS).t(), ones[:rows])
    return total


def sample(tensor: Tensor) -> Tensor:
    """Runs of 251 elements at equal distances, at least 65,536 elements in all."""
    flat = _plain(tensor).reshape(-1)
    distance = _distance(flat.numel())
    if distance == BUCKETS:
        return flat
    return flat[: flat.numel() // distance * distance].view(-1, distance)[:, :BUCKETS].reshape(-1)


def sample_at(tensor: Tensor, indices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The elements of a shard that are in the sample of the whole, and their indices in it."""
    distance = _distance(count)
    if distance == BUCKETS:
        return tensor, indices
    places = indices.reshape(-1)
    chosen = (places % distance < BUCKETS) & (places < count // distance * distance)
    own = places[chosen]
    return tensor.reshape(-1)[chosen], own // distance * BUCKETS + own % distance


def _distance(count: int) -> int:
    """The distance of two runs, odd, so that they are at other places in rows of 2^k elements."""
    return max(1, (count // LEAST_SAMPLED - 1) | 1) * BUCKETS


def sketch_at(tensor: Tensor, indices: Tensor) -> Tensor:
    """The sketch of a shard whose elements have these indices in the whole tensor."""
    flat = _plain(tensor).reshape(-1).to(torch.float64)
    places = indices.reshape(-1).to(flat.device)
    pieces, which = torch.unique(places // PIECE, return_inverse=True)
    starts = torch.tensor([_start(piece) for piece in pieces.tolist()], device=flat.device)
    signs = _signs(flat.device)[starts[which] + places % PIECE]
    total = torch.zeros(BUCKETS, dtype=torch.float64, device=flat.device)
    return total.index_add_(0, places % BUCKETS, flat * signs)


def _plain(tensor: Tensor) -> Tensor:
    if tensor.layout == torch.sparse_coo:  # such as a gradient of an embedding
        tensor = tensor.detach().to_dense()
    part, *more = dense_parts(tensor)
    if more:
        raise NotRecorded(str(tensor.layout))
    return torch.view_as_real(part.resolve_conj()) if part.is_complex() else part


# The events of a record


class Sketches:
    """The details of tensors for events; equal tensors are sketched once."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], str] = {}

    def details_of(
        self, tensor: Tensor, parts: list[DigestPart], *, sampled: bool = False
    ) -> dict[str, Any]:
        """Shape and type, and the sketch of floating-point numbers; `parts` are of the digest.

        A sampled tensor has the sketch of its `sample`.
        """
        details: dict[str, Any] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype)[6:]}
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return details
        places = _places(tensor)
        if places is None:
            return {**details, "sketch": self._whole(tensor, parts, sampled=sampled)}
        local = tensor._local_tensor  # type: ignore[attr-defined]
        if places.numel():
            own = sample_at(local, places, tensor.numel()) if sampled else (local, places)
            details["sketch"] = encoded(sketch_at(*own))
        return {**details, "shard": True}

    def _whole(self, tensor: Tensor, parts: list[DigestPart], *, sampled: bool) -> str:
        key = sampled, *((int(part.total), part.seed) for part in parts)
        if key not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = encoded(sketch(sample(tensor) if sampled else tensor))
        return self._known[key]


def _places(tensor: Tensor) -> Tensor | None:
    """The indices in the whole tensor of the elements of a `DTensor`; None for a whole tensor."""
    if type(tensor).__name__ != "DTensor" or not hasattr(tensor, "_local_tensor"):
        return None
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    shape, offset = compute_local_shape_and_global_offset(tensor.shape, mesh, placements)
    coordinates = zip(mesh.get_coordinate() or (), placements)  # noqa: B905 - Python 3.9
    if any(place and placement.is_replicate() for place, placement in coordinates):
        # only the first replica counts, so that the sketches add up
        return torch.empty(0, dtype=torch.int64)
    places = torch.zeros((), dtype=torch.int64)
    for start, count, whole in zip(offset, shape, tensor.shape):  # noqa: B905 - Python 3.9
        places = places[..., None] * whole + torch.arange(start, start + count)
    return places


def encoded(sums: Tensor) -> str:
    """The sums as base64 of float64, without the zeros at the end."""
    values = sums.cpu()
    filled = values.nonzero()
    count = int(filled[-1]) + 1 if filled.numel() else 0
    return base64.b64encode(ctypes.string_at(values.data_ptr(), 8 * count)).decode()
