"""Samples of the machine during a run: other programs, steal time, accelerator clocks."""

import os
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import psutil

from xorbench.machine.nvml import Gpus
from xorbench.records.schema.system import SystemSample

EVERY_S: Final = 1.0


class SystemSampler:
    """Samples the machine at most once per second, outside timed sections."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = self._last = clock()
        self._cpu = _cpu_seconds()
        self._own: dict[int, float] = {}
        self._gpus = Gpus()

    def sample(self, processes: Iterable[int]) -> SystemSample | None:
        """A sample of the time since the last one; None within a second of it.

        `processes` are the process ids of this run.
        """
        now = self._clock()
        if now - self._last < EVERY_S:
            return None
        cpu, own = _cpu_seconds(), _own_seconds(processes)
        spent = {key: cpu[key] - self._cpu[key] for key in cpu}
        # The share of a process that started or ended since the last sample is unknown.
        this_run = sum(own[pid] - self._own[pid] for pid in own.keys() & self._own.keys())
        total = max(sum(spent.values()), 1e-9)
        busy = spent["busy"] - this_run
        sample = SystemSample(
            at_s=round(now - self._started, 3),
            load_average_1min=os.getloadavg()[0],
            others_percent=round(max(0.0, 100 * busy / total), 2) if self._own else None,
            steal_percent=round(100 * spent["steal"] / total, 2),
            accelerators=self._gpus.states(),
        )
        self._last, self._cpu, self._own = now, cpu, own
        return sample


def _cpu_seconds() -> dict[str, float]:
    """Seconds of all processors since boot: busy, steal, idle."""
    times = psutil.cpu_times()
    steal = float(getattr(times, "steal", 0.0))
    idle = float(times.idle) + float(getattr(times, "iowait", 0.0))
    names = ("user", "nice", "system", "irq", "softirq")
    busy = sum(float(getattr(times, name, 0.0)) for name in names)
    return {"busy": busy, "steal": steal, "idle": idle}


def _own_seconds(processes: Iterable[int]) -> dict[int, float]:
    """CPU seconds of this process and of its training processes, including their children."""
    seconds = {}
    for pid in (os.getpid(), *processes):
        try:
            process = psutil.Process(pid)
            used = process.cpu_times()
            living = sum(_total(child.cpu_times()) for child in process.children(recursive=True))
        except psutil.Error:
            continue
        ended = float(getattr(used, "children_user", 0.0) + getattr(used, "children_system", 0.0))
        # Training processes are children of this process and are counted separately.
        seconds[pid] = _total(used) + (ended + living if pid != os.getpid() else 0.0)
    return seconds


def _total(times: Any) -> float:
    return float(times.user + times.system)
