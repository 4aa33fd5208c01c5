"""Speed of the sweep relative to a DataLoader loop, and the gain from a second core.

    python bench/sweep_speed.py --rounds 15

Each round times in random order: the reference loop (`xor.training.training`, one thread), a chunk
of the sweep on one core, and the same chunk on two cores. Ratios are paired within a round; the
value is the geometric mean over the rounds with Student's t interval (95%). Start-up is excluded.
"""

import argparse
import random
import time
from collections.abc import Callable

import numpy as np
import torch
from ratios import shown

from xorbench.machine.universal.backends import available_cores
from xorbench.machine.universal.sweep_plan import universal
from xorbench.process import sweep_ops
from xorbench.recorder.environment import processor
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training.training import Training

FORM = ",.2f"
BATCH_SIZE = 128
LOOP_EPOCHS = 60  # of one model, after a warm-up
SWEPT = universal(Recipe(), BATCH_SIZE, drop_last=True)


def reference() -> float:
    """Epochs per second of the DataLoader loop, without scores or digests."""
    training = Training(Case(batch_size=BATCH_SIZE), Recipe())
    for _ in range(3):
        training.run_epoch()
    start = time.perf_counter()
    for _ in range(LOOP_EPOCHS):
        training.run_epoch()
    return LOOP_EPOCHS / (time.perf_counter() - start)


def opened(threads: int, backend: str) -> tuple[sweep_ops.SweepSession, float]:
    """A session of the sweep's process, and its start-up in seconds."""
    session = sweep_ops.SweepSession()
    answer = sweep_ops.open_backend(
        session, backend=backend, device="cpu", threads=threads, recipes=[SWEPT]
    )
    return session, answer["import_s"] + answer["compile_s"]


def swept(session: sweep_ops.SweepSession, seeds: int) -> float:
    """Model-epochs per second of a chunk in the process of a sweep."""
    start = time.perf_counter()
    sweep_ops.sweep(session, recipe=SWEPT, first_seed=0, count=seeds)
    return seeds * SWEPT["epochs"] / (time.perf_counter() - start)


def main() -> None:
    """Time all rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=2_048, help="trained in a chunk")
    parser.add_argument("--backend", default="numba")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sessions = {threads: opened(threads, options.backend) for threads in (1, 2)}
    measured: dict[str, Callable[[], float]] = {
        "DataLoader loop, 1 thread": reference,
        **{
            f"sweep, {threads} core{'s' * (threads > 1)}": lambda s=session: swept(s, options.seeds)
            for threads, (session, _) in sessions.items()
        },
    }
    rates: dict[str, list[float]] = {name: [] for name in measured}
    draws = random.Random(0)
    for act in measured.values():  # warm-up
        act()
    for _ in range(options.rounds):
        for name in draws.sample(list(measured), len(measured)):
            rates[name].append(measured[name]())
    loop, one_core, two_cores = (np.asarray(values) for values in rates.values())
    print(f"{processor()}, {available_cores()} cores; batch {BATCH_SIZE}, n = {options.rounds}")
    print(f"start-up (excluded): {', '.join(f'{s:.2f} s' for _, s in sessions.values())}")
    for name, values in rates.items():
        print(f"{name:32} {shown(values, FORM)} model-epochs/s")
    print(f"{'sweep on one core ÷ loop':32} {shown(one_core / loop, FORM)}")
    print(f"{'two cores ÷ one core':32} {shown(two_cores / one_core, FORM)}")


if __name__ == "__main__":
    main()
