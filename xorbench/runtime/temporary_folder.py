"""Temporary folders whose owner is on record, so that those of a dead process can be removed.

It imports nothing but the standard library, as the watchdog does.
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


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder in TMPDIR with its owner on record, removed at the end.

    The folders of dead owners are removed first.
    """
    remove_stale()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        (folder / OWNER).write_text(json.dumps(this_process()))
        yield folder
    finally:
        remove_folder(folder)


def remove_stale() -> None:
    """Remove the temporary folders of this user whose owner is dead."""
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                remove_if_stale(Path(entry.path))


def remove_if_stale(folder: Path, wait_s: float = 0.0) -> None:
    """Remove a temporary folder whose owner is dead, or dies within these seconds."""
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


def read_owner(folder: Path) -> dict[str, Any] | None:
    """The owner of a folder; None where it is not on record, or belongs to another user."""
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
    """Whether the owner is certainly dead; a process of another machine is never."""
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
    """Remove a folder as far as possible, its owner's record last; others may do so as well."""
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
    """This process as an owner: `started` is None where the system does not give it."""
    state = state_of(os.getpid())
    return {
        "pid": os.getpid(),
        "started": None if state is None else state.started,
        "machine": f"{platform.node()} {_read('/etc/machine-id')}",
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "namespace": _namespace(),
    }


def _namespace() -> str:
    """The namespace of process ids: the same number is another process in another one."""
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    return ""


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return ""
