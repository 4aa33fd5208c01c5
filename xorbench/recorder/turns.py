"""Two trainings that run turn by turn: one waits at the end of a step while the other continues.

The folder of the turns has two FIFOs. At the end of a turn the recorder writes a report into
`reports` and waits for the number of steps of the next turn in `go`. One process of a training
reports: rank 0, or without ranks the process that steps first. The others are stopped with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

import torch

from .head import process_rank
from .options import Options

REPORTS, GO, CLAIMED = "reports", "go", "claimed"
LONGEST_LINE = 64  # bytes of a number of steps


class Turns:
    """Counts the steps of the process that reports, and waits between its turns.

    With several optimizers the steps of the one with the most steps count.
    """

    def __init__(self, options: Options) -> None:
        self._folder = options.turns
        self._steps_of_turn = options.turn_steps
        self._pid = os.getpid()
        self._claims: bool | None = None  # whether this process reports; None before its first step
        self._go = self._reports = -1
        self._counts: dict[str, int] = {}
        self._steps = 0
        self._recorder_s = 0.0
        self._began = time.perf_counter()

    def step_ended(self, optimizer: str, ended: float, recorder_s: float) -> None:
        """A step has ended; wait if it is the last of the turn.

        `ended` is the time at which the training entered the recorder, and `recorder_s` the time of
        the recorder since the last step, both by the clock `time.perf_counter`.
        """
        if not self._folder or self._pid != os.getpid() or not self._reports_turns():
            return
        self._recorder_s += recorder_s
        most = max(self._counts.values(), default=0)
        self._counts[optimizer] = self._counts.get(optimizer, 0) + 1
        if self._counts[optimizer] <= most:
            return
        self._steps += 1
        if self._steps < self._steps_of_turn:
            return
        waiting_since = time.perf_counter()
        synchronize()
        seconds = ended - self._began - self._recorder_s + time.perf_counter() - waiting_since
        self._wait(seconds)
        self._steps = 0
        self._began = time.perf_counter()
        self._recorder_s = ended - self._began  # the next step's time of the recorder includes this

    def _wait(self, seconds: float) -> None:
        """Report the turn, and wait for the next one; without an owner the training continues."""
        report = {"steps": self._steps, "seconds": seconds, "recorder_s": self._recorder_s}
        try:
            os.write(self._reports, json.dumps({**report, **device_memory()}).encode() + b"\n")
            self._steps_of_turn = int(os.read(self._go, LONGEST_LINE))
        except (OSError, ValueError):
            self._folder = ""

    def _reports_turns(self) -> bool:
        if self._claims is None:
            self._claims = process_rank() in (None, "0") and self._claim()
        return self._claims

    def _claim(self) -> bool:
        """Whether no other process of this training reports."""
        with contextlib.suppress(OSError):
            os.close(os.open(os.path.join(self._folder, CLAIMED), os.O_CREAT | os.O_EXCL))
            self._reports = os.open(os.path.join(self._folder, REPORTS), os.O_WRONLY)
            self._go = os.open(os.path.join(self._folder, GO), os.O_RDONLY)
            return True
        return False


def synchronize() -> None:
    """Wait until the accelerator in use has computed everything; not tested on hardware."""
    for device in (torch.cuda, getattr(torch, "xpu", None)):
        if device is not None and device.is_initialized():
            device.synchronize()
    if torch.backends.mps.is_available():
        torch.mps.synchronize()


def device_memory() -> dict[str, int]:
    """The memory that this process has reserved on its GPU, and the free memory of the GPU."""
    if not torch.cuda.is_initialized():
        return {}
    free, _ = torch.cuda.mem_get_info()
    return {"device_used": torch.cuda.memory_reserved(), "device_free": free}
