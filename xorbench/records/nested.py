"""Flattens nested records: names joined by dots."""

from collections.abc import Callable, Mapping
from typing import Any


def flat(
    values: Mapping[str, Any], prefix: str = "", text: Callable[[Any], str] = str
) -> dict[str, str]:
    """Nested values by dotted names after the prefix, each formatted by `text`."""
    rows: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            rows |= flat(value, f"{prefix}{key}.", text)
        else:
            rows[prefix + key] = text(value)
    return rows
