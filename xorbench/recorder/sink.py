"""The file of a record: JSON lines, each with the operating system before the next step begins."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any


class Sink:
    """Writes lines until the record is as large as it may be; then it only counts them."""

    def __init__(self, folder: str, max_bytes: int) -> None:
        name = f"{time.time_ns():020d}-{os.getpid()}.jsonl"
        self.path = os.path.join(folder, name)
        self._room = max_bytes
        self._size = 0
        self._descriptor = -1
        self._values = -1
        self.left_out = 0
        self.offset = 0

    def write(self, line: dict[str, Any], *, always: bool = False) -> None:
        """Append one line, unless there is no room; `always` for those that close a record."""
        text = json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n"
        data = text.encode(errors="replace")  # names of files may be no text
        if (self.left_out or len(data) > self._room) and not always:
            self.left_out += 1
            return
        self._room -= len(data)
        try:
            if self._descriptor < 0:
                self._descriptor = _opened(self.path)
            _write_all(self._descriptor, data)
        except OSError:  # a full disk, a limit of the user's
            self.left_out += 1
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)  # no half a line
            return
        self._size += len(data)

    def keep(self, data: bytes) -> dict[str, Any]:
        """Append the bytes of a tensor to the file of values; the answer says where they begin."""
        if self._values < 0:
            self._values = _opened(f"{self.path}.values")
        at = self.offset
        _write_all(self._values, data)
        self.offset += len(data)
        return {"at": at}


class MemorySink:
    """The same in memory, with the bytes of tensors in the lines themselves, in hex."""

    def __init__(self) -> None:
        self.path = ""
        self.left_out = 0
        self.lines: list[dict[str, Any]] = []

    def write(self, line: dict[str, Any], *, always: bool = False) -> None:  # noqa: ARG002
        """Append one line."""
        self.lines.append(line)

    def keep(self, data: bytes) -> dict[str, Any]:
        """The bytes of a tensor as they stand in a line."""
        return {"hex": data.hex()}


def _opened(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags, 0o600)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
