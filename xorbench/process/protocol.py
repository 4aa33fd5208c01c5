"""The protocol: one JSON object per line, for a request, an answer or an error.

A request is `{v, id, op, args}`, an answer `{id, ok}`, an error `{id, error}`. NaN and infinities
are sent as null. Standard library only, since the process's end runs in any interpreter.
"""

import json
import math
from typing import Any, Final

Reply = dict[str, Any]
VERSION: Final = 1


def request(number: int, op: str, args: dict[str, Any]) -> bytes:
    """A request as one line."""
    return _line({"v": VERSION, "id": number, "op": op, "args": args})


def answer(number: int, result: object) -> bytes:
    """An answer as one line."""
    return _line({"id": number, "ok": _finite(result)})


def refusal(number: int, kind: str, message: str) -> bytes:
    """An error as one line: the type and the message of the exception."""
    return _line({"id": number, "error": {"type": kind, "message": message}})


def read(line: bytes) -> dict[str, Any]:
    """The message on one line; raises `ValueError` for any other content."""
    message = json.loads(line)
    if not isinstance(message, dict) or "id" not in message:
        raise ValueError(f"not a message: {line[:80]!r}")
    return message


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
