"""Runs a command and ends all its processes. A separate program, so that none outlives its owner.

It reads one JSON request from standard input, which stays open as a lifeline. When standard input
is closed, however its owner died, every process of the command is killed. The byte `s` stops every
process of the command, `c` continues them, and each is acknowledged by one JSON line on standard
output. Any other byte ends the run. The answer is the last JSON line on standard output.

A watchdog, `xorbench.runtime.watchdog`, starts the command and ends the run in the same way if this
process dies. It is not stopped with the command. If the watchdog dies, this process continues.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from xorbench.errors import why
from xorbench.runtime import watchdog
from xorbench.runtime.pause import Pause
from xorbench.runtime.process_tree import (
    POLL_S,
    ProcessState,
    adopt_orphans,
    descendants,
    kill_all,
    reap,
    state_of,
    tree_below,
)

READ_BYTES: Final = 1 << 16
GRACE_S: Final = 3.0  # for processes that are still alive when the command has ended
LARGEST_LIST: Final = 20  # commands that are listed
RANKS_S: Final = 60.0  # at most, for the ranks to reach the step at which the first has stopped
DEATH_S: Final = 2.0  # between the end of a process's pipes and its own end

_SIGNALS: Final[list[int]] = []  # received signals that end this process


def main() -> None:
    """Read the request, run the command and write the answer."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # the command would inherit SIG_IGN
        signal.signal(number, lambda number, _frame: _SIGNALS.append(number))
    adopt_orphans()
    try:
        command = SupervisedCommand()
    except OSError as error:  # too many processes
        _answer({"why": why(error), "code": None})
        return
    request, pending = _read_request()
    _answer(supervise(request, command, pending))
    command.close()


def _read_request() -> tuple[dict[str, Any], bytes]:
    """The request, and the bytes after it."""
    data = b""
    while b"\n" not in data:
        more = os.read(sys.stdin.fileno(), READ_BYTES)
        if not more:
            sys.exit("the owner died before it sent the request")
        data += more
    line, _, pending = data.partition(b"\n")
    return json.loads(line), pending


def _answer(values: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the reader is gone
        os.write(sys.stdout.fileno(), (json.dumps(values) + "\n").encode())


def supervise(
    request: dict[str, Any], command: "SupervisedCommand", pending: bytes = b""
) -> dict[str, Any]:
    """Run the command until its end, stop or time-out, or until the lifeline is cut.

    `pending` holds the bytes of standard input that were read with the request.
    """
    began = time.monotonic()
    try:
        command.start(request)
    except OSError as error:
        return {"why": why(error), "code": None}
    pause = Pause(command.tree)
    lifeline = Lifeline(pause, pending)
    records = Path(request["records"]) if request["stops"] else None
    end = _wait(command, lifeline, records, began + request["timeout_s"])
    end = "stopped" if end == "ended" and _left_early(request) else end
    left = _outlasting(command, lifeline) if end == "ended" else []
    kill_all(command.processes)
    reap()
    names = [state.name for state in left]
    names += [f"{state.name} (could not be killed)" for state in command.processes()]
    if lifeline.owner_died:
        watchdog.remove_stale_folders(request, DEATH_S)
    return {
        "code": command.code if end in ("ended", "stopped") else None,
        "how": end,
        "left": _listed(names),
        "left_pids": [state.pid for state in left],
        "wall_s": time.monotonic() - began - pause.seconds,
    }


class Lifeline:
    """Standard input: its bytes are requests of the owner, end of file means the owner died."""

    owner_died = False

    def __init__(self, pause: Pause, pending: bytes = b"") -> None:
        self.pause = pause
        self._pending = pending

    def cut(self, seconds: float, also: Sequence[int] = ()) -> bool:
        """Whether to end the run; waits up to `seconds` or until one of `also` is readable."""
        if _SIGNALS:
            return True
        stdin = sys.stdin.fileno()
        if not self._pending and stdin not in select.select([stdin, *also], [], [], seconds)[0]:
            return False
        self._pending = self._pending or os.read(stdin, 1)
        request, self._pending = self._pending[:1], self._pending[1:]
        reply = self.pause.obey(request)
        if reply is not None:
            _answer(reply)
        self.owner_died = not request
        return reply is None


class SupervisedCommand:
    """The command: started by the watchdog, or by this process if the watchdog has died."""

    def __init__(self) -> None:
        """Start the watchdog, so that both processes import in parallel."""
        self.pid: int | None = None
        self.code: int | None = None
        held = os.dup(sys.stdout.fileno())  # the reader of the answer waits for the watchdog's end
        os.set_inheritable(held, True)
        bare = ["-E", "-S"] if sys.platform == "linux" else ["-E"]  # it needs no packages there
        self._watchdog = subprocess.Popen(
            [sys.executable, *bare, watchdog.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            close_fds=False,  # the streams of the command may be descriptors
            start_new_session=True,
        )
        os.close(held)
        self._watched = True

    def start(self, request: dict[str, Any]) -> None:
        """Start the command; raises `OSError`."""
        assert self._watchdog.stdin
        watchdog.send(self._watchdog.stdin.fileno(), request)
        reply = self._reply()
        if "why" in reply:
            raise OSError(reply["errno"], reply["why"])
        if self._watched:
            self.pid = reply["pid"]
            return
        kill_all(self.processes)  # the watchdog may have died between the start and its reply
        self.pid = watchdog.start(request).pid

    @property
    def replies(self) -> list[int]:
        """The descriptor that becomes readable when the command ends, if there is one."""
        assert self._watchdog.stdout
        return [self._watchdog.stdout.fileno()] if self._watched and self.code is None else []

    def has_ended(self) -> bool:
        """Whether the command has ended on its own."""
        if self.replies and select.select(self.replies, [], [], 0)[0]:
            self.code = self._reply().get("code")
        if not self._watched and self.code is None:
            assert self.pid
            self.code = reap(self.pid)
        return self.code is not None

    def is_lost(self) -> bool:
        """Whether the command has ended and its exit code was lost with the watchdog."""
        return not self._watched and self.pid is not None and state_of(self.pid) is None

    def processes(self) -> list[ProcessState]:
        """Every living process of the command, parents first."""
        # by session too, for systems without the adoption of orphans
        states = descendants(os.getpid(), self.pid)
        return [state for state in states if state.pid != self._watchdog.pid]

    def tree(self) -> list[ProcessState]:
        """Every living process of the command that descends from it, parents first."""
        return [state for state in tree_below(os.getpid()) if state.pid != self._watchdog.pid]

    def close(self) -> None:
        """Let the watchdog end."""
        assert self._watchdog.stdin
        with contextlib.suppress(OSError):
            os.write(self._watchdog.stdin.fileno(), b"\n")
        self._watchdog.wait()

    def _reply(self) -> dict[str, Any]:
        """The next message of the watchdog; empty if it has died."""
        assert self._watchdog.stdout
        reply = watchdog.receive(self._watchdog.stdout.fileno())
        self._watched = bool(reply)
        return reply


def _wait(
    command: SupervisedCommand, lifeline: Lifeline, records: Path | None, deadline: float
) -> str:
    """Wait for the end: on its own, stopped after its steps, by time-out, or by the lifeline.

    `records` is the folder with the `.stopped` files of the ranks; None without a limit of steps.
    """
    stopped_at: float | None = None
    while True:
        if command.has_ended():
            return "ended"
        now = time.monotonic()
        stopped, ranks, wait_s = (0, 1, RANKS_S) if records is None else _stopped(records)
        if stopped:
            stopped_at = now if stopped_at is None else stopped_at
            if stopped >= ranks or now - stopped_at > wait_s:
                return "stopped"
        if now - lifeline.pause.seconds > deadline:
            return "timeout"
        if lifeline.cut(POLL_S, command.replies) or command.is_lost():
            return "abandoned"


def _stopped(records: Path) -> tuple[int, int, float]:
    """The processes to kill that have made their steps, the ranks, and how long to wait (s)."""
    marks = []
    for mark in records.glob("*.stopped"):
        with contextlib.suppress(OSError, ValueError):  # being written
            marks.append(json.loads(mark.read_bytes()))
    ranks = max((mark["ranks"] for mark in marks), default=1)
    return len(marks), ranks, min((mark["wait_s"] for mark in marks), default=RANKS_S)


def _left_early(request: dict[str, Any]) -> bool:
    """Whether a process of the command has ended itself after its steps."""
    return bool(request["stops"]) and any(Path(request["records"]).glob("*.leaving"))


def _outlasting(command: SupervisedCommand, lifeline: Lifeline) -> list[ProcessState]:
    """The processes that are still alive `GRACE_S` after the end of the command."""
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline:
        if not command.processes():
            return []
        if lifeline.cut(POLL_S):
            break
    return command.processes()


def _listed(names: list[str]) -> list[str]:
    """The first `LARGEST_LIST` names, and the number of further ones."""
    more = len(names) - LARGEST_LIST  # a pipe holds 64 KiB
    return [*names[:LARGEST_LIST], f"{more} more"] if more > 0 else names


if __name__ == "__main__":
    main()
