"""Faults that are the same in every process: which check sees each, and from what size on.

    python bench/equal_faults.py [--seeds N] [--epochs N] [--only NAME,…]

No comparison sees such a fault, since it is alike wherever one looks. Each fault of
`hooks/alike.py` changes PyTorch, the workload or a clock in this process by a size. The size is
halved until fewer than 95% of the seeds are caught. A seed is caught where one of the checks golden
inputs and accuracy of arithmetic of `xorbench run` would fail of it.
`tests/trainings/test_equal_faults.py` puts the same faults into the processes of real runs, those
of the clock too.
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
RATE: Final = Recipe.learning_rate  # as the orchestrator has it
MOST_HALVINGS: Final = 24


def caught(recipe: Recipe, seed: int) -> Iterator[str]:
    """The checks that fail of one training."""
    checked = golden_inputs.checked(recipe, seed)
    if any(fact["actual"] != fact["expected"] for fact in checked["facts"]):
        yield "golden inputs"
    case = Case(seed=seed)
    training = Training(case, recipe)
    if training.inputs_sha256() not in checked["inputs_sha256"].values():
        yield "golden inputs"
    epochs = [training.step() for _ in range(recipe.epochs)]
    weights = [str(epoch.weights) for epoch in epochs]
    found = recompute(case, recipe, weights, RATE(recipe, case.batch_size))
    assert found is not None
    losses = [epoch.loss for epoch in epochs]
    error = Float64Error(case, recipe, found.error_ulps, found.control_ulps, losses, found.losses)
    result = training.finish()
    answers = zip(found.predictions, result.test.predictions, strict=True)
    counts = ((found.test, result.test), (found.train, result.train))
    forged = any(truth not in ("?", said) for truth, said in answers) or any(
        not least <= score.correct <= most for (least, most), score in counts
    )
    if forged or any(error.flaws()):
        yield "accuracy of arithmetic"


def share(fault: alike.Fault, size: float, recipe: Recipe, seeds: int) -> tuple[int, Counter[str]]:
    """How many of the seeds are caught, and by which checks."""
    counts: Counter[str] = Counter()
    total = 0
    for seed in range(seeds):
        alike.undo()
        fault.change(size)
        found = set(caught(recipe, seed))
        counts.update(found)
        total += bool(found)
    alike.undo()
    return total, counts


def smallest(
    fault: alike.Fault, recipe: Recipe, seeds: int
) -> tuple[float, int, Counter[str]] | None:
    """The smallest size that is caught in 95% of the seeds; None where the largest is not."""
    found, size = None, fault.largest
    for _ in range(1 if fault.single else MOST_HALVINGS):
        total, counts = share(fault, size, recipe, seeds)
        if total < SHARE * seeds:
            break
        found = (size, total, counts)
        size /= 2
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, a row a fault."""
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
        found = smallest(fault, Recipe(epochs=given.epochs), given.seeds)
        if found is None:
            missed = f"not caught at {fault.largest:g}"
            print(f"| {fault.kind} | {name}: {fault.about} | {missed} | | |")
            continue
        size, total, counts = found
        shown = "as it is" if fault.single else f"{size:.2g}"
        checks = ", ".join(f"{check} ({n})" for check, n in counts.most_common())
        row = (fault.kind, f"{name}: {fault.about}", shown, f"{total} of {given.seeds}", checks)
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
