"""Speed of the engines, time of the parts of a step, and cost by number of training points.

    python bench/engine_speed.py --rounds 30            engines compared, paired by round
    python bench/engine_speed.py --rounds 30 --profile  the parts of a step, in microseconds
    python bench/engine_speed.py --rounds 10 --linear   time per sample and memory

One process, one thread, batch 128. Each round times everything in random order. Ratios are paired
within a round; the value is the geometric mean with Student's t interval over the rounds (95%).
"""

import argparse
import gc
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import psutil
import torch
from ratios import shown

from xorbench.process.universal_training import UniversalTraining
from xorbench.recorder.environment import processor
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training.engines.loaders import make_loader
from xorbench.xor.training.engines.replay import run, traced_program
from xorbench.xor.training.engines.spec import Batches, loss_function
from xorbench.xor.training.training import Training

BATCH_SIZE = 128
ENGINES = ("loader", "fetch", "tensor", "replay", "universal")
SIZES = (2_500, 25_000, 250_000)
FORM = ",.4g"
Act = Callable[[], object]


def rounds(acts: dict[str, Act], loops: dict[str, int], count: int) -> dict[str, list[float]]:
    """Seconds of one call of each act in `count` rounds, each in a different order.

    `loops` is the number of calls of an act that are timed together.
    """
    draws = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in acts}
    for act in acts.values():  # warm-up
        act()
    for _ in range(count):
        for name in draws.sample(list(acts), len(acts)):
            start = time.perf_counter()
            for _ in range(loops.get(name, 1)):
                acts[name]()
            times[name].append((time.perf_counter() - start) / loops.get(name, 1))
    return times


def side_by_side(count: int) -> None:
    """Epochs per second of each engine, and the ratio to the loader engine."""
    acts: dict[str, Act] = {}
    for name in ENGINES[:-1]:
        acts[name] = Training(Case(engine=name), Recipe()).run_epoch
    acts["universal"] = UniversalTraining(Case(engine="universal"), Recipe(epochs=9_000)).step
    times = rounds(acts, {"replay": 8, "universal": 8, "tensor": 2, "fetch": 2}, count)
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(times["loader"], seconds, strict=True)]
        print(
            f"{name:10} epochs/s {shown([1 / s for s in seconds], FORM)}"
            f"   ÷ loader {shown(ratios, FORM)}"
        )


def profile(count: int) -> None:
    """Microseconds of the parts of a step; each epoch runs one more part than the previous."""
    steps = Recipe().steps(BATCH_SIZE, True)
    acts: dict[str, Act] = {}
    for name in ("loader", "tensor"):
        spec = Training(Case(engine=name), Recipe()).spec
        batches = make_loader(spec, spec.data) if name == "loader" else Batches(spec, name)
        for depth, phase in enumerate(("batch", "forward", "backward", "update")):
            acts[f"{name} {phase}"] = partial(partly, batches, spec, depth)
    for size in (1, BATCH_SIZE):
        spec = Training(Case(), Recipe()).spec
        program = traced_program(spec, size, False)
        batch = [tensor[:size] for tensor in spec.data.tensors]
        with torch.inference_mode():
            calls = program.calls([batch[i].to(dtype) for i, dtype in program.sources])
        acts[f"replay, {size} points"] = partial(inference, calls * steps)
    nothing = [partial(len, ()) for _ in calls]
    acts["replay, Python only"] = partial(inference, nothing * steps)
    acts["replay epoch"] = Training(Case(engine="replay"), Recipe()).run_epoch
    times = {name: np.array(t) / steps * 1e6 for name, t in rounds(acts, {}, count).items()}
    for name in ("loader", "tensor"):
        before = np.zeros(count)
        for phase in ("batch", "forward", "backward", "update"):
            part = times[f"{name} {phase}"] - before
            print(f"{name:7} {phase:10} {np.median(part):8.1f} µs")
            before = times[f"{name} {phase}"]
    python, one_point = times["replay, Python only"], times["replay, 1 points"]
    full, whole = times[f"replay, {BATCH_SIZE} points"], times["replay epoch"]
    rows = (
        (f"Python: {len(calls)} empty calls", python),
        ("binding, dispatcher, set-up of kernels", one_point - python),
        ("arithmetic on 127 more points", full - one_point),
        ("order, gathering, loss", whole - full),
    )
    for label, part in rows:
        print(f"replay  {label:40} {np.median(part):8.1f} µs")


def partly(batches: object, spec: object, depth: int) -> None:
    """An epoch whose steps stop after the batch, the forward or the backward pass, or not."""
    loss_of, optimizer = loss_function(spec), spec.optimizer
    for points, labels in batches:
        if depth >= 1:
            loss = loss_of(points, labels)
        if depth >= 2:
            optimizer.zero_grad()
            loss.backward()
        if depth >= 3:
            optimizer.step()


@torch.inference_mode()
def inference(calls: Sequence[Act]) -> None:
    """Run the calls like the replay engine."""
    run(calls)


def linear(count: int) -> None:
    """Nanoseconds per sample by number of training points, and the memory of each process."""
    acts: dict[str, Act] = {}
    for engine in ("tensor", "replay"):
        for size in SIZES:
            training = Training(Case(engine=engine), Recipe(train_size=size))
            acts[f"{engine} {size}"] = training.run_epoch
    gc.collect()
    gc.freeze()
    loops = {name: SIZES[-1] // int(name.split()[1]) for name in acts}
    times = rounds(acts, loops, count)
    for engine in ("tensor", "replay"):
        each = {n: [t / n for t in times[f"{engine} {n}"]] for n in SIZES}
        for size in SIZES:
            ratio = [a / b for a, b in zip(each[size], each[SIZES[0]], strict=True)]
            command = [sys.executable, __file__, "--memory", engine, str(size)]
            grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            nanoseconds = shown([t * 1e9 for t in each[size]], FORM)
            print(
                f"{engine:8}{size:9,} points {nanoseconds} ns per sample"
                f"   ÷ {SIZES[0]:,} {shown(ratio, FORM)}   {grown.strip()}"
            )


def memory(engine: str, size: int) -> None:
    """The increase of the peak memory by a large training after a small one."""
    small, large = (memory_after(engine, points) for points in (256, size))
    print(f"{(large - small) / 2**20:.1f} MiB more, {(large - small) / size:.0f} bytes per point")


def memory_after(engine: str, points: int) -> int:
    """The memory of this process in bytes during a training with this number of points."""
    training = Training(Case(engine=engine), Recipe(train_size=points))
    for _ in range(3):
        training.run_epoch()
    return psutil.Process().memory_info().rss


def main() -> None:
    """Run the selected benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--linear", action="store_true")
    parser.add_argument("--memory", nargs=2, metavar=("ENGINE", "POINTS"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if options.memory:
        memory(options.memory[0], int(options.memory[1]))
        return
    print(f"{processor()}; PyTorch {torch.__version__}, 1 thread, n = {options.rounds}")
    act = profile if options.profile else linear if options.linear else side_by_side
    act(options.rounds)


if __name__ == "__main__":
    main()
