"""The tensors and plain values in what a module is called with, and where each of them stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

DEEPEST = 6
MOST = 1_000  # values of one call

PLAIN = (bool, int, float, complex, str, bytes)


class Unknown:
    """A value that cannot be looked into."""

    def __init__(self, value: object) -> None:
        self.reason = type(value).__name__


def values(value: object, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Each tensor, plain value or `Unknown` with its path, such as `[0].input_ids`.

    Mappings, sequences, data classes and objects with attributes are walked to `DEEPEST`; modules,
    functions and classes are passed over, and None is nothing.
    """
    if isinstance(value, (Tensor, *PLAIN)) or hasattr(value, "__array_interface__"):
        yield path, value
        return
    if value is None or isinstance(value, (nn.Module, type)) or callable(value):
        return
    parts = None if depth == DEEPEST else _parts(value)
    if parts is None:
        yield path, Unknown(value)
        return
    for place, part in parts:
        yield from values(part, path + place, depth + 1)


def _parts(value: Any) -> list[tuple[str, Any]] | None:
    """What a value is made of, and where each part stands; None where it cannot be looked into."""
    if isinstance(value, (list, tuple)):
        names = getattr(value, "_fields", None)
        return [(f".{names[i]}" if names else f"[{i}]", part) for i, part in enumerate(value)]
    if isinstance(value, Mapping) or (hasattr(value, "keys") and hasattr(value, "__getitem__")):
        return [(f".{key}", value[key]) for key in list(value.keys())]
    if hasattr(value, "__dict__"):
        return [(f".{name}", part) for name, part in vars(value).items()]
    return None
