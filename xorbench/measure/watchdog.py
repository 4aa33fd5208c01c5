"""Starts a command for the supervisor, and kills every process of it if the supervisor dies.

It reads one JSON line from standard input, which stays open as a lifeline. On standard output it
reports the command's process id, or why it cannot be started, and later its exit code, one JSON
line each. It stands between the supervisor and the command, in a session of its own. On Linux it
adopts the orphans of the command, and the supervisor adopts them if this process dies. So either
of the two finds every process by descent.

It starts while the supervisor imports, and imports only the standard library.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Any, Final

from xorbench.measure.process_tree import (
    MARK,
    ProcessState,
    adopt_orphans,
    descendants,
    kill_all,
    marked,
    reap,
)

REQUEST: Final = 0
REPLIES: Final = 1


def main() -> None:
    """Start the command, report its end, and clean up if the lifeline is cut without a word."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # a signal that is ignored instead would be ignored by the command as well
        signal.signal(number, lambda _number, _frame: None)
    woken = _woken_by_children()
    adopt_orphans()
    asked = _line()
    if asked is None:
        return
    try:
        child = start(asked)
    except OSError as error:
        _reply(errno=error.errno, why=str(error.strerror or error))
        os.read(REQUEST, 1)
        return
    _reply(pid=child.pid)
    if _watch(child.pid, woken):
        return
    _end_processes(child.pid, asked["environment"].get(MARK))
    remove_stale_folders(asked)


def start(asked: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own; raises `OSError`."""
    with open(asked["stdout"], "wb") as out, open(asked["stderr"], "wb") as err:  # noqa: PTH123 - or descriptors
        return subprocess.Popen(
            asked["command"],
            cwd=asked["folder"],
            env=asked["environment"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def remove_stale_folders(asked: dict[str, Any], wait_s: float = 0.0) -> None:
    """Remove the run's temporary folders if their owner is dead, or dies within these seconds."""
    from xorbench.measure.temporary_folder import remove_if_stale

    for folder in asked.get("temporary", []):
        remove_if_stale(Path(folder), wait_s)


def _end_processes(session: int, mark: str | None) -> None:
    """Kill every process of the command: below this one, in its session, or marked."""

    def find() -> list[ProcessState]:
        found = descendants(os.getpid(), session)
        return found + ([] if mark is None else marked(mark))

    kill_all(find)
    reap()


def _woken_by_children() -> int:
    """A descriptor that is readable when a child has ended."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def _watch(child: int, woken: int) -> bool:
    """Report the end of the command; the answer is whether the supervisor has ended the run."""
    while True:
        ready = select.select([REQUEST, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            code = reap(child)
            if code is not None:
                _reply(code=code)
        if REQUEST in ready:
            return bool(os.read(REQUEST, 1))


def _line() -> dict[str, Any] | None:
    data = b""
    while not data.endswith(b"\n"):
        read = os.read(REQUEST, 1 << 20)
        if not read:
            return None
        data += read
    asked: dict[str, Any] = json.loads(data)
    return asked


def _reply(**values: Any) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(REPLIES, json.dumps(values).encode() + b"\n")


if __name__ == "__main__":
    main()
