"""The file of a record: JSON lines, each written before the next step begins."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

# Lowest descriptors to use, so that a program that closes or counts low ones is not affected.
HIGH_DESCRIPTORS = (900, 200)


class RecordLost(OSError):
    """The file of the record was removed or replaced."""


class RecordFile:
    """An append-only file that survives a program that closes or reuses its descriptor.

    Attributes:
        size: the number of bytes appended.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None

    def append(self, data: bytes) -> None:
        """Append the bytes, all or none. Raises `OSError`."""
        if not self._is_open():
            self._open()
        try:
            self._write(data)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            self._open()  # a thread of the program has just closed the descriptor
            self._write(data)

    def _write(self, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:  # a full disk, a limit on the size of a file
            self._cut()
            raise
        self.size += len(data)

    def _is_open(self) -> bool:
        """Whether descriptor and path still refer to the created file.

        A program that has dropped its privileges may not be allowed to read the path.
        """
        try:
            if self._descriptor < 0 or _identity(os.fstat(self._descriptor)) != self._identity:
                return False
            return _identity(os.stat(self.path)) == self._identity
        except OSError as error:
            return isinstance(error, PermissionError)

    def _open(self) -> None:
        """Create the file, or reopen it; the old descriptor now belongs to the program."""
        self._descriptor = -1
        new = os.O_CREAT | os.O_EXCL if self._identity is None else 0
        flags = os.O_WRONLY | os.O_APPEND | new | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(self.path, flags, 0o600)
        identity = _identity(os.fstat(descriptor))
        if self._identity not in (None, identity):
            os.close(descriptor)
            raise RecordLost("the file of the record was replaced")
        if new:
            os.fchmod(descriptor, 0o600)  # regardless of the program's umask
        self._identity = identity
        self._descriptor = _moved_up(descriptor)

    def _cut(self) -> None:
        """Remove an incomplete line, if the path still refers to the created file."""
        with contextlib.suppress(OSError):
            status = os.stat(self.path)
            if _identity(status) == self._identity and status.st_size > self.size:
                os.truncate(self.path, self.size)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _moved_up(descriptor: int) -> int:
    """Duplicate a descriptor to a high number if the limit on open files allows it."""
    for lowest in HIGH_DESCRIPTORS if fcntl else ():
        with contextlib.suppress(OSError):
            high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
            os.close(descriptor)
            return high
    return descriptor


class Sink:
    """Writes lines up to the size limit of the record, and counts the ones after it.

    Attributes:
        not_recorded: the number of lines that were not written.
    """

    def __init__(self, folder: str, max_bytes: int) -> None:
        name = f"{time.time_ns():020d}-{os.getpid()}.jsonl"
        self.path = os.path.join(folder, name)
        self._room = max_bytes
        self._lines = RecordFile(self.path)
        self._values = RecordFile(f"{self.path}.values")
        self.not_recorded = 0

    def write(self, line: dict[str, Any], *, always: bool = False) -> None:
        """Append one line if it fits; `always` is for the lines that close a record.

        A record cannot be read without its first line, so if that line fails, no other is written.
        """
        text = json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n"
        data = text.encode(errors="replace")  # file names may not be valid text
        full = (self.not_recorded or len(data) > self._room) and not always
        if full or (self.not_recorded and not self._lines.size):
            self.not_recorded += 1
            return
        self._room -= len(data)
        try:
            self._lines.append(data)
        except OSError:
            self.not_recorded += 1

    def keep(self, data: bytes) -> dict[str, Any]:
        """Append the bytes of a tensor to the values file and return their position.

        Raises `OSError` if they do not fit.
        """
        if len(data) > self._room // 2:  # the rest is for the lines
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        start = self._values.size
        self._values.append(data)
        self._room -= len(data)
        return {"at": start}


class MemorySink:
    """Keeps the lines in memory, with the bytes of tensors in the lines, in hex."""

    def __init__(self) -> None:
        self.path = ""
        self.not_recorded = 0
        self.lines: list[dict[str, Any]] = []

    def write(self, line: dict[str, Any], *, always: bool = False) -> None:  # noqa: ARG002
        """Append one line."""
        self.lines.append(line)

    def keep(self, data: bytes) -> dict[str, Any]:
        """The bytes of a tensor in hex."""
        return {"hex": data.hex()}
