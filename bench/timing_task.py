"""The task of `timing_tools.py` for other tools: one epoch of one case.

    pytest bench/timing_task.py
    python bench/timing_task.py pyperf -o FILE
    python bench/timing_task.py whole

The variable STRETCH makes each epoch (with `whole` the process) take longer by a percentage.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.faults import FaultSpec
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training.faults import inject
from xorbench.xor.training.training import Training

ROUNDS = 100


def stretch() -> int:
    """Per cent."""
    return int(os.environ.get("STRETCH", "0"))


def opened(percent: int) -> Training:
    """The case, ready to train, under the base process config."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    faults = [FaultSpec("delay", {"percent": percent})] if percent else []
    return Training(Case(), Recipe(), alter=lambda training: inject(training, faults))


def test_epoch(benchmark: Any) -> None:
    """One epoch, by pytest-benchmark."""
    training = opened(stretch())
    benchmark.pedantic(training.run_epoch, rounds=ROUNDS, warmup_rounds=2)


def main() -> None:
    """One epoch by pyperf, or a whole training for a tool that times processes."""
    if sys.argv.pop(1) == "pyperf":
        import pyperf

        runner = pyperf.Runner(program_args=(__file__, "pyperf"))
        runner.bench_func("epoch", opened(stretch()).run_epoch)
        return
    training = opened(0)
    for _ in range(ROUNDS):
        training.run_epoch()
    end = time.perf_counter() + age_s() * stretch() / 100
    while time.perf_counter() < end:
        pass
    os._exit(0)  # what came after would not be stretched


def age_s() -> float:
    """Seconds since this process was started, to a hundredth (proc(5): field 22 of stat)."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
