"""The SHA-256 of named tensors, computed from their bytes without torch (workload.md §4)."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

DIGITS: Final = 16  # hex digits (64 bits) stored of each of many digests
Entry = tuple[str, str, Sequence[int], bytes]  # name, dtype, shape, little-endian bytes


def first_difference(a: Sequence[str], b: Sequence[str]) -> int | None:
    """The first index at which two sequences differ; None if one is a prefix of the other."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)


def sha256(entries: Iterable[Entry]) -> str:
    """SHA-256 over `name NUL dtype NUL shape-joined-by-commas NUL bytes` of each entry, in order.

    The dtype is the short name, such as `float32`. A permuted, negated, reshaped or re-typed tensor
    changes the digest.
    """
    digest = hashlib.sha256()
    for name, dtype, shape, content in entries:
        digest.update(f"{name}\0{dtype}\0{','.join(map(str, shape))}\0".encode())
        digest.update(content)
    return digest.hexdigest()
