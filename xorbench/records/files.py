"""Reads and writes files: whole or line by line, with errors that name the line."""

import contextlib
import errno
import gzip
import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from filelock import FileLock, Timeout

from xorbench.errors import BadFile, BadOption, why

Decoded = TypeVar("Decoded")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees either the old or the new content."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def append_line(path: Path, line: bytes) -> None:
    """Append a line in one write, without buffering in this process."""
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _write_all(descriptor, line + b"\n")
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def drop_cut_line(path: Path) -> None:
    """Remove a last line that a crash truncated; raises `BadFile` if it cannot be changed."""
    if path.exists():
        with writing(path):
            content = path.read_bytes()
            if content and not content.endswith(b"\n"):
                os.truncate(path, content.rfind(b"\n") + 1)


def locked(folder: Path) -> FileLock:
    """Acquire the lock of a run's folder; raises `BadFile` if another process holds it."""
    lock = FileLock(folder / ".lock", timeout=0, thread_local=False)
    with writing(folder / ".lock"):
        try:
            lock.acquire()
        except Timeout:
            raise BadFile(
                f"{folder}: this run is still in progress", "wait for it, or stop it"
            ) from None
    return lock


def whole_lines(path: Path) -> Iterator[tuple[Path, int, bytes]]:
    """The complete lines of a file, or of its gzip-compressed form if only that exists.

    A last line truncated by a crash is skipped.
    """
    packed = packed_path(path)
    if path.exists():
        yield from _lines(path, Path.open)
    elif packed.exists():
        yield from _lines(packed, gzip.open)


TAIL_BYTES: Final = 1 << 16  # of the first read to find the last line of a file


def last_line(path: Path) -> bytes:
    """The last complete line of a file, or an empty text."""
    size = TAIL_BYTES
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        while True:
            start = max(0, length - size)
            file.seek(start)
            tail = file.read(length - start)
            whole = tail[: tail.rfind(b"\n") + 1]
            if (before := whole.rfind(b"\n", 0, -1)) >= 0:
                return whole[before + 1 :]
            if start == 0:
                return whole
            size *= 4


def packed_path(path: Path) -> Path:
    """The path of the gzip-compressed form of a file."""
    return path.with_name(f"{path.name}.gz")


def _lines(path: Path, opened: Callable[..., Any]) -> Iterator[tuple[Path, int, bytes]]:
    try:
        with opened(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield path, number, line
    except OSError as error:
        raise BadFile(f"{path}: cannot read: {why(error)}") from None
    except (EOFError, zlib.error) as error:
        raise BadFile(f"{path}: damaged: {str(error).lower()}") from None


def is_file(path: Path) -> bool:
    """Whether the path is a file; false for an invalid path."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_bytes(path: Path) -> bytes:
    """The content of a file; raises `BadFile` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadFile(f"{path}: cannot read: {why(error)}") from None


def decoded(content: bytes, kind: type[Decoded], where: object, hint: str = "") -> Decoded:
    """Decode JSON as a value of a type; raises `BadFile` with place and hint if it does not fit."""
    try:
        return msgspec.json.decode(content, type=kind)
    except UNDECODABLE as error:
        raise BadFile(f"{where}: damaged: {error}", hint) from None


UNDECODABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError, BadOption)
"""The exceptions for invalid content: wrong types, text that is not UTF-8, JSON nested too deeply,
or a value that is invalid for an option."""


def place(path: Path, number: int) -> str:
    """A file and a line as in an error message; line 0 is the whole file."""
    return f"{path}:{number}" if number else str(path)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert an `OSError` in the block to a `BadFile` that names the path."""
    try:
        yield
    except OSError as error:
        hint = "free some space, then resume the run" if error.errno == errno.ENOSPC else ""
        raise BadFile(f"{path}: cannot write: {why(error)}", hint) from None
