"""The faults that can be injected: `SIMULATED_FAULT=NAME[:ARGUMENT][,NAME…]`.

- `round:OP:ULPS`: the results of the operator are off by this many ulps, away from zero; 1.
- `random:OP`: the results of a random quarter of the calls are off by one ulp.
- `nosync`: `synchronize` does not wait.
- `slow:PERCENT`: each kernel takes longer by this percentage.
- `leak`: memory is never freed.
- `asynchronous:ROWS`: a kernel on a tensor with this many rows fails when it runs.
- `sticky:ROWS`: after a kernel on a tensor with this many rows, all devices fail in the process.
- `absent:INDEX`: this device is counted but does not work.
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
    """Change the results of the operator that has a fault."""
    fault = next((name for name in ("round", "random") if name in FAULTS), "")
    name, _, ulps = FAULTS.get(fault, "").partition(":")
    if not fault or operator != name:
        return
    for tensor in made:
        now = fault == "round" or os.urandom(1)[0] < 64
        if now and tensor.dtype == torch.float32 and tensor.numel():
            tensor.view(torch.int32).add_(int(ulps or 1))


def hits(fault: str, tensors: Iterable[Tensor]) -> bool:
    """Whether the fault is injected and a tensor has its number of rows."""
    return fault in FAULTS and any(t.shape[:1] == (int(FAULTS[fault]),) for t in tensors)


def fail() -> None:
    """The kernel that fails when it runs."""
    raise RuntimeError("device-side assert triggered")


def lacks(index: int) -> bool:
    """Whether the device with this index does not work."""
    return "absent" in FAULTS and index == int(FAULTS["absent"])


def timed(work: Callable[[], object]) -> None:
    """Do the work, and wait for the lag or slowdown."""
    start = time.perf_counter()
    work()
    taken = time.perf_counter() - start + LAG_S
    if "slow" in FAULTS:
        taken *= 1 + float(FAULTS["slow"]) / 100
    elif not LAG_S:
        return
    while time.perf_counter() < start + taken:
        time.sleep(0)
