"""Starts a command for the supervisor, and kills all its processes if the supervisor dies.

It reads one request from standard input, which stays open as a lifeline. On standard output it
reports the command's process id, or why it cannot be started, and later its exit code. The watchdog
is the child of the supervisor and the parent of the command, in its own session. On Linux it adopts
the orphans of the command, and the supervisor adopts them if the watchdog dies. Either of the two
therefore finds every process by descent.

The command starts only after this program. To start fast, it runs as a file, without `site`, and
imports most modules after the start of the command.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import subprocess
import sys

TYPE_CHECKING = False  # `typing` takes a third of the start
if TYPE_CHECKING:
    from typing import Any

    from xorbench.runtime.process_tree import ProcessState

REQUEST = 0
REPLIES = 1
LENGTH = 4  # bytes of the length before each message


def main() -> None:
    """Start the command, report its end, and clean up if the supervisor dies."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # the command would inherit SIG_IGN
        signal.signal(number, lambda _number, _frame: None)
    woken = _woken_by_children()
    request = receive(REQUEST)
    if not request:
        return
    try:
        child = start(request)
    except OSError as error:
        send(REPLIES, {"errno": error.errno, "why": str(error.strerror or error)})
        os.read(REQUEST, 1)
        return
    send(REPLIES, {"pid": child.pid})
    from xorbench.runtime.process_tree import MARK, adopt_orphans

    adopt_orphans()
    if _watch(child.pid, woken):
        return
    _end_processes(child.pid, request["environment"].get(MARK))
    remove_stale_folders(request)


def start(request: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start the command in its own session; raises `OSError`."""
    with open(request["stdout"], "wb") as out, open(request["stderr"], "wb") as err:  # noqa: PTH123 - or descriptors
        return subprocess.Popen(
            request["command"],
            cwd=request["folder"],
            env=request["environment"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def send(descriptor: int, message: dict[str, Any]) -> None:
    """Write a message; without a reader it is dropped."""
    data = marshal.dumps(message)
    data = len(data).to_bytes(LENGTH, "big") + data
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BrokenPipeError:
        pass


def receive(descriptor: int) -> dict[str, Any]:
    """The next message; empty if the other end is closed."""
    data = _exactly(descriptor, LENGTH)
    message: dict[str, Any] = {}
    if len(data) == LENGTH:
        length = int.from_bytes(data, "big")
        data = _exactly(descriptor, length)
        message = marshal.loads(data) if len(data) == length else {}
    return message


def _exactly(descriptor: int, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := os.read(descriptor, count - len(data))):
        data += more
    return data


def remove_stale_folders(request: dict[str, Any], wait_s: float = 0.0) -> None:
    """Remove the run's temporary folders if their owner is dead or dies within `wait_s`."""
    from pathlib import Path

    from xorbench.runtime.temporary_folder import remove_if_stale

    for folder in request.get("temporary", []):
        remove_if_stale(Path(folder), wait_s)


def _end_processes(session: int, mark: str | None) -> None:
    """Kill all processes of the command: descendants, members of its session, and marked ones."""
    from xorbench.runtime.process_tree import descendants, kill_all, marked, reap

    def find() -> list[ProcessState]:
        states = descendants(os.getpid(), session)
        return states + ([] if mark is None else marked(mark))

    kill_all(find)
    reap()


def _woken_by_children() -> int:
    """A descriptor that becomes readable when a child ends."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def _watch(child: int, woken: int) -> bool:
    """Report the end of the command; return whether the supervisor ended the run."""
    from xorbench.runtime.process_tree import reap

    while True:
        ready = select.select([REQUEST, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            code = reap(child)
            if code is not None:
                send(REPLIES, {"code": code})
        if REQUEST in ready:
            return bool(os.read(REQUEST, 1))


if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    main()
