"""Copies the packages that a process needs to a private folder, for use by any interpreter."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import platformdirs
from filelock import FileLock

import xorbench
from xorbench.errors import BadFile

LOCK_S: Final = 60.0
PACKAGES: Final = (
    *("__init__.py", "errors.py", "registry.py", "state_digest.py", "options", "recorder"),
    *("machine/__init__.py", "machine/universal", "machine/probes"),
    *("xor/__init__.py", "xor/matrix", "xor/training", "process"),
)


def staged() -> Path:
    """The folder to put on a process's path.

    Its name is the hash of its content. It is made once for each version of the sources and kept
    between runs, so that compiled files stay valid and edits do not affect a run in progress.
    """
    sources = _sources()
    name = hashlib.sha256(b"".join(f"{n}\0".encode() + c + b"\0" for n, c in sources)).hexdigest()
    for base in _bases():
        # a file system without locks raises NotImplementedError, a stuck lock an OSError
        with contextlib.suppress(OSError, NotImplementedError):
            return _ensure(base / f"process-{os.getuid()}-{name[:16]}", sources)
    raise BadFile(f"{tempfile.gettempdir()}: cannot write there", "set TMPDIR to a writable folder")


def _bases() -> Iterator[Path]:
    """The user's cache if there is a home, which some containers lack; then TMPDIR."""
    with contextlib.suppress(RuntimeError):
        cache = platformdirs.user_cache_path("xorbench")
        if cache.is_absolute():
            yield cache
    yield Path(tempfile.gettempdir())


def _sources() -> list[tuple[str, bytes]]:
    """Relative name and content of every file of the packages, sorted by name."""
    package = Path(xorbench.__file__).parent
    files = [
        file
        for layer in PACKAGES
        for file in (
            (package / layer).rglob("*") if (package / layer).is_dir() else [package / layer]
        )
        if file.suffix in {".py", ".json"} and file.is_file()
    ]
    return sorted((file.relative_to(package).as_posix(), file.read_bytes()) for file in files)


def _ensure(folder: Path, sources: list[tuple[str, bytes]]) -> Path:
    if not _holds(folder, sources):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock")
        with FileLock(lock, timeout=LOCK_S):
            if not _holds(folder, sources):  # else another run has just made it and uses it
                _make(folder, sources)
    return folder


def _make(folder: Path, sources: list[tuple[str, bytes]]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=".process-", dir=folder.parent))
    for name, content in sources:
        target = temporary / "xorbench" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    shutil.rmtree(folder, ignore_errors=True)  # a damaged copy
    temporary.rename(folder)


def _holds(folder: Path, sources: list[tuple[str, bytes]]) -> bool:
    """Whether only this user can write to the folder and it holds exactly these files.

    Compiled files are allowed. Any other file could be imported in place of a real module.
    """
    try:
        status = folder.lstat()
        private = status.st_uid == os.getuid() and not status.st_mode & 0o022
        names = {
            file.relative_to(folder / "xorbench").as_posix()
            for file in (folder / "xorbench").rglob("*")
            if file.is_file() and file.parent.name != "__pycache__"
        }
        return (
            private
            and [entry.name for entry in folder.iterdir()] == ["xorbench"]
            and names == {name for name, _ in sources}
            and all((folder / "xorbench" / n).read_bytes() == content for n, content in sources)
        )
    except OSError:
        return False
