"""Runs a command and ends every process of it: a program of its own, so that it outlives nothing.

It reads one JSON line of what to do from standard input, which stays open as a lifeline: when it is
closed, however the other end died, every process of the command is killed. Its answer is one JSON
line on standard output. On Linux it is a child subreaper, so that what the command's processes
leave behind becomes its own child.
"""

import contextlib
import ctypes
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

import psutil

from xorbench.errors import why

PR_SET_CHILD_SUBREAPER: Final = 36
POLL_S: Final = 0.02
GRACE_S: Final = 3.0  # for what is still alive when the command has ended
LARGEST_LIST: Final = 20  # commands that are listed
KILL_S: Final = 30.0  # for what has been sent SIGKILL
RANKS_S: Final = 60.0  # for the other ranks to come to the step at which the first has stopped

_SIGNALS: Final[list[int]] = []  # that have asked this process to end


def main() -> None:
    """Do what the line says and answer."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # a signal that is ignored instead would be ignored by the command as well
        signal.signal(number, lambda number, _frame: _SIGNALS.append(number))
    asked = json.loads(sys.stdin.buffer.readline())
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    answer = json.dumps(supervise(asked)) + "\n"
    with contextlib.suppress(BrokenPipeError):  # nobody is there to read it
        os.write(sys.stdout.fileno(), answer.encode())


def supervise(asked: dict[str, Any]) -> dict[str, Any]:
    """Run the command to its end, its stop, its time-out, or the end of the lifeline."""
    began = time.monotonic()
    with open(asked["stdout"], "wb") as out, open(asked["stderr"], "wb") as err:  # noqa: PTH123 - or descriptors
        try:
            child = subprocess.Popen(
                asked["command"],
                cwd=asked["folder"],
                env=asked["environment"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except OSError as error:
            return {"why": why(error), "code": None}
    records = Path(asked["records"]) if asked["stops"] else None
    how = _wait(child, records, began + asked["timeout_s"])
    left = _outlasting(child) if how == "ended" else []
    _kill_all(child)
    left += [f"{name} (could not be killed)" for name in _names(_descendants(child))]
    return {
        "code": child.returncode if how == "ended" else None,
        "how": how,
        "left": left,
        "wall_s": time.monotonic() - began,
    }


def _wait(child: subprocess.Popen[bytes], records: Path | None, deadline: float) -> str:
    """How it ended: by itself, stopped after its steps, out of time, or with the lifeline.

    `records` is the folder in which ranks say that they have stopped; None where none will.
    """
    stopped_at: float | None = None
    while True:
        if child.poll() is not None:
            return "ended"
        now = time.monotonic()
        stopped, ranks = (0, 1) if records is None else _stopped(records)
        if stopped:
            stopped_at = now if stopped_at is None else stopped_at
            if stopped >= ranks or now - stopped_at > RANKS_S:
                return "stopped"
        if now > deadline:
            return "timeout"
        if _cut(POLL_S):
            return "abandoned"


def _cut(seconds: float) -> bool:
    """Whether the lifeline is closed within these seconds, or a signal asks this process to end."""
    if _SIGNALS:
        return True
    readable = select.select([sys.stdin], [], [], seconds)[0]
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


def _stopped(records: Path) -> tuple[int, int]:
    """How many processes have stopped after their steps, and how many ranks there are."""
    marks = list(records.glob("*.stopped"))
    ranks = 1
    for mark in marks:
        with contextlib.suppress(OSError, ValueError), mark.with_suffix("").open("rb") as file:
            head = json.loads(file.readline())
            ranks = max(ranks, head["process"]["world_size"] or 1)
    return len(marks), ranks


def _outlasting(child: subprocess.Popen[bytes]) -> list[str]:
    """The commands of what is alive some seconds after the command has ended."""
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline:
        if not _descendants(child):
            return []
        if _cut(POLL_S):
            break
    return _names(_descendants(child))


def _names(processes: Sequence[psutil.Process]) -> list[str]:
    """Their commands, so many as a pipe holds."""
    names = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            names.append(process.name())
    more = len(names) - LARGEST_LIST  # a pipe holds 64 KiB of them
    return [*names[:LARGEST_LIST], f"{more} more"] if more > 0 else names


def _descendants(child: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Every living process of the command, parents first."""
    found = psutil.Process().children(recursive=True)
    if sys.platform != "linux":  # without a subreaper, what was left behind is found by its session
        found += [p for p in psutil.process_iter() if _session(p) == child.pid and p not in found]
    return [p for p in found if _status(p) not in (psutil.STATUS_ZOMBIE, None)]


def _session(process: psutil.Process) -> int | None:
    with contextlib.suppress(OSError):
        return os.getsid(process.pid)
    return None


def _status(process: psutil.Process) -> str | None:
    with contextlib.suppress(psutil.Error):
        return str(process.status())
    return None


def _kill_all(child: subprocess.Popen[bytes]) -> None:
    """Stop every process, so that none starts another, kill parents before children, and wait.

    What may not be killed, as under sudo, is left after some seconds.
    """
    deadline = time.monotonic() + KILL_S
    while (alive := _descendants(child)) and time.monotonic() < deadline:
        for sent in (signal.SIGSTOP, signal.SIGKILL):
            for process in alive:
                with contextlib.suppress(psutil.Error, OSError):
                    process.send_signal(sent)
        time.sleep(POLL_S)
        with contextlib.suppress(ChildProcessError):
            child.poll()
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    child.poll()


if __name__ == "__main__":
    main()
