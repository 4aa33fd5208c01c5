"""The end of a process after its steps.

A process ends itself once every rank of its launch has made its steps, so that the command starts
its next training. A rank that waits for a rank that has stopped makes no further step: after the
time of three steps it counts as stopped. The supervisor kills processes of `multiprocessing`, whose
parent waits for their results, and the runs of a question about kills.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.process import parent_process
from typing import NamedTuple

from .head import ranks

SHORTEST_S = 5.0  # the wait for the other ranks
LONGEST_S = 60.0
STEPS = 3  # in the wait
POLL_S = 0.05
KILL = ".stopped"  # the end of a mark that asks the supervisor to kill the run
LEAVE = ".leaving"  # the end of the mark of a process that ends itself
STARTED_S = time.time()
LAUNCH = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")


class Mark(NamedTuple):
    """The file that a process writes after its steps.

    Attributes:
        launch: the variables that the ranks of a launch share.
        rank: the rank.
        ranks: the number of ranks that the supervisor waits for.
        wait_s: how long the ranks without a mark are waited for (s).
        at_s: the time at which it was written (s since 1970).
    """

    launch: list[str]
    rank: str
    ranks: int
    wait_s: float
    at_s: float


def stop(record: str, step_s: float, *, kill: bool) -> None:
    """End this process, whose record is complete; or wait until the supervisor kills it."""
    mark = own_mark(step_s)
    if kill or parent_process() is not None:
        write(record + KILL, mark)
        _wait_forever()
    write(record + LEAVE, mark)
    if _others_stop(os.path.dirname(record), mark):
        leave()
    write(record + KILL, mark._replace(ranks=1))
    _wait_forever()


def own_mark(step_s: float) -> Mark:
    """The mark of this process, whose last step took this long."""
    rank, count = ranks()
    launch = [os.environ.get(name, "") for name in LAUNCH]
    return Mark(launch, rank or "", count or 1, wait_s(step_s), time.time())


def wait_s(step_s: float) -> float:
    """How long to wait for a step that usually takes this long (s)."""
    return min(LONGEST_S, max(SHORTEST_S, STEPS * step_s))


def write(path: str, mark: Mark) -> None:
    """Write a mark in one piece."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        os.write(descriptor, json.dumps(mark._asdict()).encode())
    finally:
        os.close(descriptor)


def marks(folder: str, own: Mark) -> list[Mark]:
    """The marks of the ranks of this launch; an earlier launch wrote its marks before it began."""
    read = []
    for name in os.listdir(folder):
        if name.endswith(LEAVE):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError, ValueError), open(path) as file:  # being written
                read.append(Mark(**json.load(file)))
    return [mark for mark in read if mark.launch == own.launch and mark.at_s >= STARTED_S]


def _others_stop(folder: str, own: Mark) -> bool:
    """Wait for the other ranks; False if one of them neither stops nor counts as stopped."""
    deadline = time.monotonic() + 2 * own.wait_s
    while len({mark.rank for mark in marks(folder, own)}) < own.ranks:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def watch(folder: str, blocked: Callable[[float], None]) -> None:
    """Call `blocked` if this process makes its last step and then waits for one that has stopped.

    A rank that receives from another, as in pipeline parallelism, never begins its next step.
    """
    own = own_mark(0.0)
    if own.ranks > 1:
        thread = threading.Thread(target=_watch, args=(folder, own, blocked), daemon=True)
        thread.start()


def _watch(folder: str, own: Mark, blocked: Callable[[float], None]) -> None:
    while True:
        time.sleep(POLL_S)
        stopped = marks(folder, own)
        if any(mark.rank == own.rank for mark in stopped):
            return
        first = min(stopped, key=lambda mark: mark.at_s, default=None)
        if first is not None and time.time() - first.at_s > first.wait_s:
            blocked(first.wait_s / STEPS)
            return


def leave() -> None:
    """End this process and its children without its remaining code."""
    for child in multiprocessing.active_children():  # loader processes
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or replaced by the program
            stream.flush()
    os._exit(0)


def _wait_forever() -> None:
    while True:
        time.sleep(3600)
