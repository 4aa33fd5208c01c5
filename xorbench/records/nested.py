"""Nested records as flat ones: names joined by dots."""

from collections.abc import Callable, Mapping
from typing import Any


def flat(
    values: Mapping[str, Any], prefix: str = "", text: Callable[[Any], str] = str
) -> dict[str, str]:
    """Nested values with dotted names behind the prefix, each as `text` writes it."""
    rows: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            rows |= flat(value, f"{prefix}{key}.", text)
        else:
            rows[prefix + key] = text(value)
    return rows
