"""The computer around the workers: what a person would call the machine."""

import os
import platform
import socket
from pathlib import Path
from typing import Any

import psutil


def describe(*, anonymous: bool) -> dict[str, Any]:
    """Processor, cores, memory (bytes), load; the host's name unless anonymous."""
    described = {
        "cpu": processor(),
        "architecture": platform.machine(),
        "cores_logical": psutil.cpu_count(logical=True),
        "cores_physical": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average_1min": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
    }
    return described if anonymous else {"hostname": socket.gethostname(), **described}


def processor() -> str:
    """The processor's model name, or its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
