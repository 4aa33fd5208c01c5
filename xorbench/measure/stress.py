"""A machine kept busy while it trains: stressors beside the processes, gone with the block."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from xorbench.errors import BadOption
from xorbench.measure.process import START_S, environment
from xorbench.plan.case import ProcessConfig

# How many processes of each kind: as many as cores for what keeps a core busy, one a device.
PROCESSES: Final = {"cpu": os.cpu_count() or 1, "memory": 2}


@contextmanager
def stressed(kind: str | None, packages: Path, devices: Sequence[str] = ()) -> Iterator[None]:
    """Keep the processor, the memory or the devices busy inside; None leaves all in peace.

    Raises `BadOption` where one of them cannot be kept busy: the block begins once all are.
    """
    processes = [_started(kind, device, packages) for device in _targets(kind, devices)]
    try:
        for process in processes:
            _await(process, kind)
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _targets(kind: str | None, devices: Sequence[str]) -> Sequence[str]:
    """One device a stressor; the processor and the memory are nobody's in particular."""
    if kind == "accelerator" and not devices:
        raise BadOption("--stress: no accelerator here to keep busy", "take cpu or memory")
    return devices if kind == "accelerator" else [""] * (PROCESSES[kind] if kind else 0)


def _started(kind: str | None, device: str, packages: Path) -> subprocess.Popen[bytes]:
    script = f"from xorbench.process.stressors import run; run({kind!r}, {device!r})"
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=packages,
        env=environment(ProcessConfig(), packages),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _await(process: subprocess.Popen[bytes], kind: str | None) -> None:
    """Wait for its word that it works."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_S)
    if not (ready and process.stdout.readline()):
        raise BadOption(f"--stress: nothing here keeps the {kind} busy")
