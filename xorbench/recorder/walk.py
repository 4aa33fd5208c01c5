"""The tensors and plain values in the inputs of a module, with their paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

DEEPEST = 6
MOST = 10_000  # values of one call

PLAIN = (bool, int, float, complex, str, bytes)


class Unknown:
    """A value of an unsupported type."""

    def __init__(self, value: object) -> None:
        self.reason = type(value).__name__


def values(value: object) -> Iterator[tuple[str, Any]]:
    """Each tensor, plain value or `Unknown` with its path, such as `[0].input_ids`.

    Mappings, sequences, data classes and objects with attributes are walked to `DEEPEST`. Modules,
    functions, classes and None are skipped. After `MOST` values, including skipped ones, the rest
    is one `Unknown`.
    """
    budget = [MOST]
    yield from _walk(value, "", 0, budget)
    if budget[0] < 0:
        rest = Unknown(None)
        rest.reason = f"beyond {MOST} values"
        yield "...", rest


def tensors(value: object) -> Iterator[tuple[str, Tensor]]:
    """The tensors among `values`, with their paths."""
    return ((path, item) for path, item in values(value) if isinstance(item, Tensor))


def _walk(value: object, path: str, depth: int, budget: list[int]) -> Iterator[tuple[str, Any]]:
    budget[0] -= 1
    if budget[0] < 0:
        return
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
        yield from _walk(part, path + place, depth + 1, budget)
        if budget[0] < 0:
            return


def _parts(value: Any) -> list[tuple[str, Any]] | None:
    """The parts of a value with their paths; None for an unsupported type."""
    if isinstance(value, (list, tuple)):
        names = getattr(value, "_fields", None)
        return [(f".{names[i]}" if names else f"[{i}]", part) for i, part in enumerate(value)]
    if isinstance(value, Mapping) or (hasattr(value, "keys") and hasattr(value, "__getitem__")):
        named = [(_key_path(key, nth), value[key]) for nth, key in enumerate(list(value.keys()))]
        return sorted(named, key=lambda part: part[0])  # the keys may come from a set
    if hasattr(value, "__dict__"):
        return [(f".{name}", part) for name, part in vars(value).items()]
    return None


def _key_path(key: Any, nth: int) -> str:
    """The path of a value of a mapping: its key, or type and index if the key is an object."""
    return f".{key}" if isinstance(key, (str, int, float)) else f".{type(key).__name__} {nth}"
