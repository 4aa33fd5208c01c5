"""Finds the processes of a run by descent, session and an environment variable, and kills them.

Uses only the standard library on Linux, so that a watchdog that imports it starts in milliseconds.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

POLL_S: Final = 0.02
KILL_S: Final = 30.0  # for processes that have been sent SIGKILL
MARK: Final = "XORBENCH_RECORD"  # the variable whose value is unique to a run

_PR_SET_CHILD_SUBREAPER: Final = 36


class ProcessState(NamedTuple):
    """A process in a snapshot; `started` and `pid` together are unique until a reboot."""

    pid: int
    parent: int
    session: int
    started: str
    name: str
    alive: bool


def adopt_orphans() -> None:
    """Become the parent of every orphaned descendant, on systems that support it."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def state_of(pid: int) -> ProcessState | None:
    """The state of a process; None if it does not exist or cannot be read."""
    return _from_proc(pid) if sys.platform == "linux" else _from_psutil(pid)


def descendants(root: int, session: int | None = None) -> list[ProcessState]:
    """The living descendants of a process, parents first, and the living members of a session."""
    states = _snapshot()
    children: dict[int, list[ProcessState]] = {}
    for state in states:
        children.setdefault(state.parent, []).append(state)
    by_pid = {s.pid: s for s in states if s.session == session}
    parents = [root, *by_pid]
    while parents:
        for child in children.get(parents.pop(0), []):
            if child.pid not in by_pid:
                by_pid[child.pid] = child
                parents.append(child.pid)
    return [state for state in by_pid.values() if state.alive and state.pid != root]


def tree_below(root: int) -> list[ProcessState]:
    """The living descendants of a process, by the kernel's lists of children where it has them.

    The lists are complete while the processes are stopped. Reading them is faster than a snapshot
    of all processes of the machine.
    """
    if not os.path.exists(f"/proc/{root}/task/{root}/children"):  # noqa: PTH110
        return descendants(root)
    states, parents, known = list[ProcessState](), [root], {root}
    while parents:
        for pid in _children(parents.pop(0)):
            state = None if pid in known else state_of(pid)
            known.add(pid)
            if state is not None:
                parents.append(pid)
                states += [state] if state.alive else []
    return states


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{pid}/task/{thread}/children", "rb") as file,  # noqa: PTH123
            ):
                children += map(int, file.read().split())
    return children


def marked(value: str) -> list[ProcessState]:
    """The living processes with this value of the mark in their environment, and descendants."""
    by_pid = {s.pid: s for s in _snapshot() if s.alive and _has_mark(s.pid, value)}
    for pid in list(by_pid):
        by_pid |= {state.pid: state for state in descendants(pid)}
    return [state for pid, state in by_pid.items() if pid != os.getpid()]


def kill_all(find: Callable[[], Sequence[ProcessState]]) -> None:
    """Kill every process that `find` returns, until it returns none.

    The processes are stopped first, so that they start no new ones. After `KILL_S`, a process
    without permission to kill it remains, such as one under sudo.
    """
    deadline = time.monotonic() + KILL_S
    while (alive := find()) and time.monotonic() < deadline:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in alive:
                send(process, number)
        time.sleep(POLL_S)


def reap(wanted: int | None = None) -> int | None:
    """Reap every ended child; return the exit code of the wanted child, if it is one of them."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == wanted:
                code = os.waitstatus_to_exitcode(status)
    return code


def send(process: ProcessState, number: signal.Signals) -> None:
    """Send a signal to a process, unless its process id belongs to another one by now."""
    now = state_of(process.pid)
    if now is not None and now.started == process.started:
        with contextlib.suppress(OSError):
            os.kill(process.pid, number)


def _snapshot() -> list[ProcessState]:
    if sys.platform == "linux":
        pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
    else:
        import psutil

        pids = psutil.pids()
    return [state for pid in pids if (state := state_of(pid)) is not None]


def _from_proc(pid: int) -> ProcessState | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib takes 5 ms to import
            name, _, rest = file.read().partition(b" (")[2].rpartition(b") ")
        fields = rest.split()
        # the first thread of a process can end before the others: a zombie with live threads
        alive = fields[0] not in (b"Z", b"X") or int(fields[17]) > 1
        parent, session = int(fields[1]), int(fields[3])
        return ProcessState(
            pid, parent, session, fields[19].decode(), name.decode(errors="replace"), alive
        )
    except (OSError, ValueError, IndexError):
        return None


def _from_psutil(pid: int) -> ProcessState | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            alive = process.status() != psutil.STATUS_ZOMBIE
            started, name = repr(process.create_time()), process.name()
            return ProcessState(pid, process.ppid(), os.getsid(pid), started, name, alive)
    except (psutil.Error, OSError):
        return None


def _has_mark(pid: int, value: str) -> bool:
    """Whether the initial environment of a process has this value of the mark."""
    if sys.platform != "linux":
        import psutil

        with contextlib.suppress(psutil.Error, OSError):
            return bool(psutil.Process(pid).environ().get(MARK) == value)
        return False
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return os.fsencode(f"{MARK}={value}") in file.read().split(b"\0")
    except OSError:
        return False
