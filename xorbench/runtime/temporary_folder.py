"""Temporary folders that record their owner, so that folders of dead processes can be removed.

Imports only the standard library, like the watchdog.
"""

import contextlib
import json
import os
import platform
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from xorbench.runtime import working_folder
from xorbench.runtime.process_tree import state_of

OWNER: Final = ".xorbench-owner.json"
PREFIX: Final = "xorbench-"
LARGEST_OWNER: Final = 10_000  # bytes
UNRECORDED_S: Final = 60.0  # an empty folder older than this will not receive a record


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder in TMPDIR that records its owner and is removed at the end.

    The folders of dead owners are removed first.
    """
    remove_stale()
    owner = json.dumps(this_process())
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        (folder / OWNER).write_text(owner)
        yield folder
    finally:
        remove_folder(folder)


def remove_stale() -> None:
    """Remove the temporary folders of this user whose owner is dead."""
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                remove_if_stale(Path(entry.path))
                _remove_if_unrecorded(Path(entry.path))


def remove_if_stale(folder: Path, wait_s: float = 0.0) -> None:
    """Remove a temporary folder if its owner is dead or dies within `wait_s`."""
    deadline = time.monotonic() + wait_s
    while True:
        owner = read_owner(folder)
        if owner is None:
            return
        if is_dead(owner):
            remove_folder(folder)
            return
        if time.monotonic() >= deadline:
            return
        time.sleep(0.02)


def _remove_if_unrecorded(folder: Path) -> None:
    """Remove an old empty folder: its owner died before it was recorded, or in its removal."""
    with contextlib.suppress(OSError):
        place = folder.lstat()
        if place.st_uid == os.geteuid() and time.time() - place.st_mtime > UNRECORDED_S:
            folder.rmdir()


def read_owner(folder: Path) -> dict[str, Any] | None:
    """The recorded owner of a folder; None if it is missing or belongs to another user."""
    try:
        place, record = folder.lstat(), (folder / OWNER).lstat()
        if not stat.S_ISDIR(place.st_mode) or not stat.S_ISREG(record.st_mode):
            return None
        if {place.st_uid, record.st_uid} != {os.geteuid()} or record.st_size > LARGEST_OWNER:
            return None
        owner = json.loads((folder / OWNER).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return owner if isinstance(owner, dict) and owner.keys() == this_process().keys() else None


def is_dead(owner: dict[str, Any]) -> bool:
    """Whether the owner is known to be dead; never true for a process of another machine."""
    this = this_process()
    known = isinstance(owner["pid"], int) and owner["started"]
    if not known or owner["machine"] != this["machine"]:
        return False
    if owner["boot"] != this["boot"]:
        return True
    if owner["namespace"] != this["namespace"]:
        return False
    state = state_of(owner["pid"])
    if state is None:
        return not _exists(owner["pid"])
    return state.started != owner["started"] or not state.alive


def remove_folder(folder: Path) -> None:
    """Remove a folder as far as possible, its owner's record last; concurrent removal is safe."""
    with contextlib.suppress(OSError):
        folder.chmod(stat.S_IRWXU)
        for path in list(folder.iterdir()):
            if path.is_dir():
                working_folder.remove(path)
            elif path.name != OWNER:
                path.unlink(missing_ok=True)
    working_folder.remove(folder)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def this_process() -> dict[str, Any]:
    """This process as an owner; `started` is None on systems that do not provide it."""
    state = state_of(os.getpid())
    return {
        "pid": os.getpid(),
        "started": None if state is None else state.started,
        "machine": f"{platform.node()} {_read('/etc/machine-id')}",
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "namespace": _namespace(),
    }


def _namespace() -> str:
    """The namespace of process ids, since an id is unique only within its namespace."""
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    return ""


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return ""
