"""Programs that use a share of the processors in bursts, reproducible by seed.

    python bench/noise.py --seed 1 -- python -m xorbench run --quick

One program per processor is busy and sleeps alternately: in each period of 2 to 10 s it uses
between 30 and 50% as processor time, drawn for each period. If it waits for the processor, it is
busy for longer. Half of the bursts compute, half copy memory beyond the caches. One, both or
neither may be busy at a time. They end with the process that started them.
"""

import argparse
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psutil

PERIOD_S: Final = (2.0, 10.0)
SHARE: Final = (0.3, 0.5)
COPIED: Final = 1 << 26  # bytes: more than the caches of a processor


class Noise:
    """The share of the processors that the programs used; known at their end."""

    share: float | None = None


@contextmanager
def noise(seed: int, share: tuple[float, float] = SHARE) -> Iterator[Noise]:
    """Run one program per processor that uses `share` of its time, in bursts."""
    load = Noise()
    processors = os.cpu_count() or 1
    began = time.monotonic()
    programs = [
        subprocess.Popen(
            [
                *(sys.executable, __file__, f"--seed={seed * processors + number}"),
                *("--burst", *map(str, share)),
            ],
            stdin=subprocess.PIPE,
        )
        for number in range(processors)
    ]
    try:
        yield load
    finally:
        taken = [psutil.Process(program.pid).cpu_times() for program in programs]
        busy = sum(one.user + one.system for one in taken)
        load.share = busy / (time.monotonic() - began) / processors
        for program in programs:
            program.communicate()  # closes its input, which ends it


def burst(seed: int, share: tuple[float, float]) -> None:
    """Be busy and sleep alternately, until the input is closed."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    chance = random.Random(seed)
    memory = bytes(COPIED)
    while True:
        period = chance.uniform(*PERIOD_S)
        quota = period * chance.uniform(*share)
        copies = chance.random() < 0.5
        until = time.monotonic() + period
        time.sleep(chance.uniform(0.0, period - quota) / 2)
        end = time.process_time() + quota
        while time.process_time() < end:
            _work(memory if copies else None)
        time.sleep(max(0.0, until - time.monotonic()))


def _work(memory: bytes | None) -> None:
    if memory is not None:
        bytearray(memory)
        return
    value = 1
    for step in range(10_000):
        value = value * 31 + step & 0xFFFFFFFF


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Run a command under the noise, or be one of its programs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--burst", type=float, nargs=2, metavar="SHARE", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="*", help="command to run under load, after --")
    given = parser.parse_args()
    if given.burst:
        burst(given.seed, (given.burst[0], given.burst[1]))
        return
    with noise(given.seed):
        ended = subprocess.run(given.command, check=False)
    sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
