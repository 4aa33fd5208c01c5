"""The machine that the processes run on."""

import os
import socket
from typing import Any

import psutil

from xorbench.recorder.environment import interpreter, processor
from xorbench.records.saved import machine_key


def cores() -> int:
    """The number of processors available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def key() -> str:
    """The key of this machine in files, without its host name."""
    return machine_key(describe(anonymous=True), socket.gethostname())


def describe(*, anonymous: bool) -> dict[str, Any]:
    """Processor, cores, memory (bytes), load; the host's name unless anonymous."""
    python = interpreter()
    described = {
        "cpu": processor(),
        "architecture": python["machine"],
        "cores_logical": psutil.cpu_count(logical=True),
        "cores_physical": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average_1min": os.getloadavg()[0],
        "system": python["os"],
    }
    return described if anonymous else {"hostname": socket.gethostname(), **described}
