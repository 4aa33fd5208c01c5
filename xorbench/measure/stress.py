"""A machine kept busy while it trains: stressors beside the processes, gone with the block."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from xorbench.measure.process import environment
from xorbench.plan.case import ProcessConfig

# How many processes of each kind: as many as cores for what keeps a core busy.
PROCESSES: Final = {"cpu": os.cpu_count() or 1, "memory": 2, "accelerator": 1}


@contextmanager
def stressed(kind: str | None, packages: Path) -> Iterator[None]:
    """Keep the processor, the memory or the accelerator busy inside; None leaves it in peace."""
    script = f"from xorbench.process.stressors import run; run({kind!r})"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=packages,
            env=environment(ProcessConfig(), packages),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(PROCESSES[kind] if kind else 0)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()
