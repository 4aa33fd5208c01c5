"""Generates load on a machine: a process that works until its standard input closes."""

import hashlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Final

BLOCK_BYTES: Final = 128 * 2**20
BUSY: Final = b"busy\n"


def run(kind: str, device: str) -> None:
    """Report the start, then work without end; the process ends with its parent."""
    threading.Thread(target=_until_closed, daemon=True).start()
    work = STRESSORS[kind](device)
    work()
    os.write(sys.stdout.fileno(), BUSY)
    while True:
        work()


def _until_closed() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _cpu(_device: str) -> Callable[[], object]:
    block = bytes(2**20)
    return lambda: hashlib.sha256(block).digest()


def _memory(_device: str) -> Callable[[], object]:
    source, target = bytearray(os.urandom(4_096) * (BLOCK_BYTES // 4_096)), bytearray(BLOCK_BYTES)

    def copy() -> None:
        memoryview(target)[:] = source

    return copy


def _accelerator(device: str) -> Callable[[], object]:
    import torch

    matrix = torch.rand(2_048, 2_048, device=device)

    def multiply() -> None:
        (matrix @ matrix).sum().item()  # synchronizes, to keep the queue short

    return multiply


STRESSORS: Final[dict[str, Callable[[str], Callable[[], object]]]] = {
    "cpu": _cpu,
    "memory": _memory,
    "accelerator": _accelerator,
}
