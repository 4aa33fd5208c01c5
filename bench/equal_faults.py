"""Faults that are identical in every process: the check that detects each, and the minimum size.

    python bench/equal_faults.py [--seeds N] [--epochs N] [--only NAME,…]

A comparison cannot detect such a fault. Each fault of `hooks/alike.py` changes PyTorch, the
workload or a clock in this process by a size. The size is halved until fewer than 95% of the seeds
are caught. A seed is caught if one of the checks golden inputs and accuracy of arithmetic of
`xorbench run` would fail. `tests/trainings/test_equal_faults.py` injects the same faults, and
faults of the clock, into the processes of real runs.
"""

import argparse
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import torch

sys.path.insert(0, str(Path(__file__).parent / "hooks"))
import alike

from xorbench.xor.analysis.float64_error import Float64Error
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training import golden_inputs
from xorbench.xor.training.float64 import recompute
from xorbench.xor.training.training import Training

SHARE: Final = 0.95
RATE: Final = Recipe.learning_rate  # of the orchestrator, without the fault
MOST_HALVINGS: Final = 24


def caught(recipe: Recipe, seed: int) -> Iterator[str]:
    """The checks that fail for one training."""
    checked = golden_inputs.checked(recipe, seed)
    if any(value["actual"] != value["expected"] for value in checked["details"]):
        yield "golden inputs"
    case = Case(seed=seed)
    training = Training(case, recipe)
    if training.inputs_sha256() not in checked["inputs_sha256"].values():
        yield "golden inputs"
    epochs = [training.step() for _ in range(recipe.epochs)]
    weights = [str(epoch.weights) for epoch in epochs]
    float64 = recompute(case, recipe, weights, RATE(recipe, case.batch_size))
    assert float64 is not None
    losses = [epoch.loss for epoch in epochs]
    ulps = float64.error_ulps, float64.control_ulps
    error = Float64Error(case, recipe, *ulps, losses, float64.losses)
    result = training.finish()
    predictions = zip(float64.predictions, result.test.predictions, strict=True)
    counts = ((float64.test, result.test), (float64.train, result.train))
    forged = any(expected not in ("?", actual) for expected, actual in predictions) or any(
        not least <= score.correct <= most for (least, most), score in counts
    )
    if forged or any(error.flaws()):
        yield "accuracy of arithmetic"


def share(fault: alike.Fault, size: float, recipe: Recipe, seeds: int) -> tuple[int, Counter[str]]:
    """The number of caught seeds, and their checks."""
    counts: Counter[str] = Counter()
    total = 0
    for seed in range(seeds):
        alike.undo()
        fault.change(size)
        checks = set(caught(recipe, seed))
        counts.update(checks)
        total += bool(checks)
    alike.undo()
    return total, counts


def smallest(
    fault: alike.Fault, recipe: Recipe, seeds: int
) -> tuple[float, int, Counter[str]] | None:
    """The smallest size that is caught in 95% of the seeds, or None."""
    result, size = None, fault.largest
    for _ in range(1 if fault.single else MOST_HALVINGS):
        total, counts = share(fault, size, recipe, seeds)
        if total < SHARE * seeds:
            break
        result = (size, total, counts)
        size /= 2
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table with one row per fault."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--seeds", type=int, default=40)
    options.add_argument("--epochs", type=int, default=20)
    options.add_argument("--only", default="")
    given = options.parse_args(arguments)
    torch.set_num_threads(1)
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{platform.machine()} {capability}, PyTorch {torch.__version__},", end=" ")
    print(f"{given.seeds} seeds, {given.epochs} epochs\n")
    print("| kind | fault | smallest size caught | trainings | by |\n|---|---|---|---|---|")
    for name, fault in alike.FAULTS.items():
        if fault.kind == "clock" or (given.only and name not in given.only.split(",")):
            continue
        result = smallest(fault, Recipe(epochs=given.epochs), given.seeds)
        if result is None:
            missed = f"not caught at {fault.largest:g}"
            print(f"| {fault.kind} | {name}: {fault.about} | {missed} | | |")
            continue
        size, total, counts = result
        shown = "single size" if fault.single else f"{size:.2g}"
        checks = ", ".join(f"{check} ({n})" for check, n in counts.most_common())
        row = (fault.kind, f"{name}: {fault.about}", shown, f"{total} of {given.seeds}", checks)
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
