"""The SHA-256 of named tensors, made of their bytes alone: no torch is needed (workload.md §4)."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

DIGITS: Final = 16  # hex digits, 64 bits, that are kept of a digest where there are many
Entry = tuple[str, str, Sequence[int], bytes]  # name, dtype, shape, little-endian bytes


def first_difference(a: Sequence[str], b: Sequence[str]) -> int | None:
    """The first place at which two sequences of digests differ; None where one goes on."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)


def sha256(entries: Iterable[Entry]) -> str:
    """SHA-256 over `name NUL dtype NUL shape-joined-by-commas NUL bytes` of each entry, in order.

    The dtype is the short name, such as `float32`. A permuted, negated, reshaped or re-typed tensor
    gives another digest.
    """
    digest = hashlib.sha256()
    for name, dtype, shape, content in entries:
        digest.update(f"{name}\0{dtype}\0{','.join(map(str, shape))}\0".encode())
        digest.update(content)
    return digest.hexdigest()
