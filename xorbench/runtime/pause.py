"""Stops the processes of a command and lets them continue, for the supervisor."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from xorbench.runtime.process_tree import ProcessState, send

STOP: Final = b"s"
CONTINUE: Final = b"c"
STOPPED_STATES: Final = ("T", "t")
PASSES: Final = 5  # over the tree, which may grow until each of its processes is stopped


class Pause:
    """The stopped processes of a command, and the time for which they were stopped.

    `find` returns the living processes of the command, parents first. Processes that the program
    stopped itself stay stopped.
    """

    def __init__(self, find: Callable[[], Sequence[ProcessState]]) -> None:
        self._find = find
        self._stopped: list[ProcessState] = []
        self._since: float | None = None
        self._past_s = 0.0

    @property
    def seconds(self) -> float:
        """The time for which the command was stopped (s)."""
        return self._past_s + (0.0 if self._since is None else time.monotonic() - self._since)

    def obey(self, request: bytes) -> dict[str, Any] | None:
        """Stop or continue the command, and return the reply; None for another request."""
        if request == STOP:
            return self._stop()
        return self._continue() if request == CONTINUE else None

    def _stop(self) -> dict[str, Any]:
        known: set[int] = set()
        for _ in range(PASSES):
            new = [process for process in self._find() if process.pid not in known]
            if not new:
                break
            for process in new:
                known.add(process.pid)
                if usage(process.pid).state not in STOPPED_STATES:
                    send(process, signal.SIGSTOP)
                    self._stopped.append(process)
        self._since = time.monotonic() if self._since is None else self._since
        return {"reply": "stopped", **self._usage(known)}

    def _continue(self) -> dict[str, Any]:
        reply = {"reply": "continued", **self._usage({p.pid for p in self._find()})}
        for process in reversed(self._stopped):  # children before the parents that wait for them
            send(process, signal.SIGCONT)
        self._past_s, self._since, self._stopped = self.seconds, None, []
        return reply

    def _usage(self, pids: set[int]) -> dict[str, Any]:
        """The processor time and the memory of processes, and their number."""
        usages = [usage(pid) for pid in pids]
        return {
            "processes": len(pids),
            "cpu_s": sum(used.cpu_s for used in usages),
            "memory_bytes": sum(used.memory_bytes for used in usages),
        }


class Usage:
    """The state of a process, its processor time with ended children, and its memory."""

    __slots__ = ("cpu_s", "memory_bytes", "state")

    def __init__(self, state: str = "", cpu_s: float = 0.0, memory_bytes: int = 0) -> None:
        self.state, self.cpu_s, self.memory_bytes = state, cpu_s, memory_bytes


def usage(pid: int) -> Usage:
    """The usage of a process; empty if it has ended."""
    return _usage_from_proc(pid) if sys.platform == "linux" else _usage_from_psutil(pid)


def _usage_from_proc(pid: int) -> Usage:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is slow here
            fields = file.read().rpartition(b") ")[2].split()
        cpu_s = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        return Usage(fields[0].decode(), cpu_s, int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, IndexError):
        return Usage()


def _usage_from_psutil(pid: int) -> Usage:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            state = "T" if process.status() == psutil.STATUS_STOPPED else ""
            return Usage(state, times.user + times.system, process.memory_info().rss)
    except psutil.Error:
        return Usage()
