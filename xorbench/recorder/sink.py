"""The file of a record: JSON lines, each with the operating system before the next step begins."""

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

# Where descriptors begin: a program that closes or counts low ones does not meet them.
HIGH_DESCRIPTORS = (900, 200)


class RecordLost(OSError):
    """The file of the record was removed or replaced, so nothing can be appended to it."""


class RecordFile:
    """A file that is appended to while the program may close and reuse any descriptor.

    Attributes:
        size: the bytes that have been appended.
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
            self._open()  # a thread of the program has closed the descriptor in the meantime
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
        """Whether descriptor and path still are the file that was made.

        A program that has given up its privileges may no longer look at the path.
        """
        try:
            if self._descriptor < 0 or _identity(os.fstat(self._descriptor)) != self._identity:
                return False
            return _identity(os.stat(self.path)) == self._identity
        except OSError as error:
            return isinstance(error, PermissionError)

    def _open(self) -> None:
        """Make the file, or open it again: the descriptor belongs to the program by now."""
        self._descriptor = -1
        new = os.O_CREAT | os.O_EXCL if self._identity is None else 0
        flags = os.O_WRONLY | os.O_APPEND | new | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(self.path, flags, 0o600)
        identity = _identity(os.fstat(descriptor))
        if self._identity not in (None, identity):
            os.close(descriptor)
            raise RecordLost("the file of the record was replaced")
        if new:
            os.fchmod(descriptor, 0o600)  # whatever the program's umask takes away
        self._identity = identity
        self._descriptor = _moved_up(descriptor)

    def _cut(self) -> None:
        """Remove the part of a line, if the path still is the file that was made."""
        with contextlib.suppress(OSError):
            status = os.stat(self.path)
            if _identity(status) == self._identity and status.st_size > self.size:
                os.truncate(self.path, self.size)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _moved_up(descriptor: int) -> int:
    """The file under a high descriptor, as far as the limit on open files allows."""
    for lowest in HIGH_DESCRIPTORS if fcntl else ():
        with contextlib.suppress(OSError):
            high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
            os.close(descriptor)
            return high
    return descriptor


class Sink:
    """Writes lines until the record is as large as it may be; then it only counts them."""

    def __init__(self, folder: str, max_bytes: int) -> None:
        name = f"{time.time_ns():020d}-{os.getpid()}.jsonl"
        self.path = os.path.join(folder, name)
        self._room = max_bytes
        self._lines = RecordFile(self.path)
        self._values = RecordFile(f"{self.path}.values")
        self.left_out = 0

    def write(self, line: dict[str, Any], *, always: bool = False) -> None:
        """Append one line, unless there is no room; `always` for those that close a record.

        Without its first line a record cannot be read, so nothing follows a first one that failed.
        """
        text = json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n"
        data = text.encode(errors="replace")  # names of files may be no text
        full = (self.left_out or len(data) > self._room) and not always
        if full or (self.left_out and not self._lines.size):
            self.left_out += 1
            return
        self._room -= len(data)
        try:
            self._lines.append(data)
        except OSError:
            self.left_out += 1

    def keep(self, data: bytes) -> dict[str, Any]:
        """Append the bytes of a tensor to the file of values; the answer is where they begin.

        Raises `OSError` if they do not fit.
        """
        if len(data) > self._room // 2:  # the rest is for the lines
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        start = self._values.size
        self._values.append(data)
        self._room -= len(data)
        return {"at": start}


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
