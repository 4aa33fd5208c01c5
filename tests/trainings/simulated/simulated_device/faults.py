"""The faults that a process can be given: `SIMULATED_FAULT=NAME[:ARGUMENT][,NAME…]`.

- `round:OP:ULPS`: what the operator gives is so many units in the last place away from zero; 1.
- `random:OP`: so it is in one call of four, by chance.
- `nosync`: `synchronize` does not wait.
- `slow:PERCENT`: each kernel takes so much longer.
- `leak`: memory is never given back.
- `asynchronous:ROWS`: a kernel on a tensor of so many rows fails when it runs, not when launched.
- `sticky:ROWS`: a kernel on a tensor of so many rows ends the process's use of all devices.
- `absent:INDEX`: this device is counted, and does not work.
"""

import os
import time
from collections.abc import Callable, Iterable
from typing import Final

import torch
from torch import Tensor

FAULTS: Final = {
    name: argument
    for name, _, argument in (
        fault.partition(":") for fault in os.environ.get("SIMULATED_FAULT", "").split(",")
    )
}
LAG_S: Final = float(os.environ.get("SIMULATED_LAG_US", "0")) * 1e-6
SYNCHRONIZES: Final = "nosync" not in FAULTS
LEAKS: Final = "leak" in FAULTS
STUCK: Final = "simulated error: an illegal memory access was encountered"


def damage(operator: str, made: Iterable[Tensor]) -> None:
    """Change what the operator gave, where it is the one to change."""
    fault = next((one for one in ("round", "random") if one in FAULTS), "")
    name, _, ulps = FAULTS.get(fault, "").partition(":")
    if not fault or operator != name:
        return
    for tensor in made:
        now = fault == "round" or os.urandom(1)[0] < 64
        if now and tensor.dtype == torch.float32 and tensor.numel():
            tensor.view(torch.int32).add_(int(ulps or 1))


def hits(fault: str, tensors: Iterable[Tensor]) -> bool:
    """Whether this fault is injected, and one of the tensors has its number of rows."""
    return fault in FAULTS and any(t.shape[:1] == (int(FAULTS[fault]),) for t in tensors)


def fail() -> None:
    """The kernel that fails when it runs."""
    raise RuntimeError("device-side assert triggered")


def lacks(index: int) -> bool:
    """Whether the device of this index does not work."""
    return "absent" in FAULTS and index == int(FAULTS["absent"])


def timed(work: Callable[[], object]) -> None:
    """Do the work, and take as long as it is to take."""
    start = time.perf_counter()
    work()
    taken = time.perf_counter() - start + LAG_S
    if "slow" in FAULTS:
        taken *= 1 + float(FAULTS["slow"]) / 100
    elif not LAG_S:
        return
    while time.perf_counter() < start + taken:
        time.sleep(0)
