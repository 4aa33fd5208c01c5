"""Errors of correct trainings relative to float64: the basis of the check's limits.

    python bench/float64_error.py --to FOLDER [--seconds S] [--only NAME,…]

Trains each group of `GROUPS` in this process, recomputes every training in float64, and stores the
error of each epoch in `FOLDER/NAME.csv`. Then prints for each group the quantiles of both
statistics of the check `accuracy of arithmetic`, the number of trainings beyond a limit, and the
upper 95% limit of their share. A group that exists in the folder is not trained again.
"""

import argparse
import csv
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xorbench.stats.intervals import wilson
from xorbench.xor.analysis.float64_error import Float64Error
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training.float64 import TF32_BITS, Float64Result, recompute, rounded
from xorbench.xor.training.training import Training


@dataclass(frozen=True, slots=True)
class Group:
    """Trainings of many seeds with the same settings."""

    seeds: int
    recipe: Recipe
    case: dict[str, Any] = field(default_factory=dict)
    simulated: str = ""

    def train(self, seed: int) -> tuple[Float64Result, list[float]]:
        """Train one seed; its float64 reference and its losses."""
        case = Case(engine="tensor", seed=seed, **self.case)
        training = Training(case, self.recipe)
        epochs = [training.step() for _ in range(self.recipe.epochs)]
        judged = Case(**{**self.case, "seed": seed, **SIMULATED_AS.get(self.simulated, {})})
        reference = recompute(judged, self.recipe, [str(epoch.weights) for epoch in epochs])
        assert reference is not None
        return reference, [epoch.loss for epoch in epochs]


SIMULATED_AS: Final[dict[str, dict[str, Any]]] = {"tf32": {"device": "cuda", "tf32": True}}
FEW, MANY = Recipe(epochs=3), Recipe(epochs=100)
GROUPS: Final = {
    "first epoch": Group(30_000, Recipe(epochs=1)),
    "100 epochs": Group(700, MANY),
    **{
        f"batch {size} drop_last {str(drop).lower()}": Group(
            1_000 if size < 128 else 300, FEW, {"batch_size": size, "drop_last": drop}
        )
        for size in (16, 32, 64, 128, 256, 512)
        for drop in (True, False)
    },
    "foreach": Group(300, FEW, {"optimizer": "foreach"}),
    "fused": Group(300, FEW, {"optimizer": "fused"}),
    "float64": Group(300, FEW, {"dtype": "float64"}),
    "bfloat16": Group(300, FEW, {"dtype": "bfloat16"}),
    "bfloat16, 40 epochs": Group(60, Recipe(epochs=40), {"dtype": "bfloat16"}),
    "TF32, simulated": Group(300, FEW, simulated="tf32"),
    "TF32, simulated, 40 epochs": Group(60, Recipe(epochs=40), simulated="tf32"),
    "lr 0.01": Group(300, Recipe(epochs=3, lr=0.01)),
    "lr 1": Group(300, Recipe(epochs=3, lr=1.0)),
    "lr 3": Group(300, Recipe(epochs=10, lr=3.0)),
    "lr 10": Group(300, Recipe(epochs=10, lr=10.0)),
    "lr 100": Group(200, Recipe(epochs=10, lr=100.0)),
    "hidden 1": Group(300, Recipe(epochs=3, hidden=1)),
    "hidden 16": Group(300, Recipe(epochs=3, hidden=16)),
    "hidden 60": Group(200, Recipe(epochs=3, hidden=60)),
    "std 0": Group(300, Recipe(epochs=3, std=0.0)),
    "std 1": Group(300, Recipe(epochs=3, std=1.0)),
    "20,000 points": Group(60, Recipe(epochs=3, train_size=20_000)),
    "batch 4": Group(60, FEW, {"batch_size": 4}),
}


class _Rounded(torch.autograd.Function):
    """A linear layer whose products round operands to 11 bits, forward and backward."""

    @staticmethod
    def forward(context: Any, points: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        context.save_for_backward(points, weight)
        return _cut(points) @ _cut(weight).T + bias

    @staticmethod
    def backward(context: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        points, weight = context.saved_tensors
        return _cut(slope) @ _cut(weight), _cut(slope).T @ _cut(points), slope.sum(dim=0)


def _cut(tensor: Tensor) -> Tensor:
    return torch.from_numpy(rounded(tensor.detach().numpy(), TF32_BITS))


@contextmanager
def simulated(name: str) -> Iterator[None]:
    """Simulate TF32 on the CPU; an empty name has no effect."""
    sound = functional.linear
    if name == "tf32":
        functional.linear = _Rounded.apply
    try:
        yield
    finally:
        functional.linear = sound


def measure(group: Group, path: Path, until: Callable[[], bool]) -> None:
    """Train the group's seeds until the time is up; write one line per epoch."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file, simulated(group.simulated):
        rows = csv.writer(file)
        rows.writerow(("seed", "epoch", "error_ulps", "control_ulps", "loss", "float64_loss"))
        for seed in range(group.seeds):
            if until():
                break
            reference, losses = group.train(seed)
            columns = (reference.error_ulps, reference.control_ulps, losses, reference.losses)
            for epoch, values in enumerate(zip(*columns, strict=True)):
                rows.writerow((seed, epoch, *(f"{value:.9g}" for value in values)))
    partial.rename(path)


def read(path: Path, epochs: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(trainings, epochs, 4): error, control, loss, loss in float64."""
    table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    return table[:, 2:].reshape(-1, epochs, 4)


def row(name: str, group: Group, values: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    """The group's line of the table."""
    case = Case(**{**group.case, **SIMULATED_AS.get(group.simulated, {})})
    errors = [Float64Error(case, group.recipe, *columns.T.tolist()) for columns in values]
    beyond = sum(any(error.flaws()) for error in errors if not error.refusal)
    worst = np.array([error.worst for error in errors])
    typical = np.array([error.typical for error in errors if error.typical is not None])
    losses = np.array([error.loss for error in errors])
    judged = sum(not error.refusal for error in errors)
    upper = wilson(beyond, judged)[1] if judged else 1.0
    columns = (
        name,
        f"{len(errors):,} × {group.recipe.epochs}",
        *(f"{np.quantile(worst, q):.3g}" for q in (0.5, 0.9999, 1.0)),
        *((f"{np.quantile(typical, q):.3g}" for q in (0.5, 1.0)) if len(typical) else ("", "")),
        f"{losses.max():.3g}",
        f"{beyond} of {judged} (at most {100 * upper:.2g}%)" if judged else "not judged",
    )
    return f"| {' | '.join(columns)} |"


HEAD: Final = (
    "| trainings | seeds × epochs | worst, median | 99.99% | max | typical, median | max"
    " | loss, max | beyond a limit |\n|---|---|---|---|---|---|---|---|---|"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the groups that are not in the folder, and print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--to", type=Path, required=True)
    options.add_argument("--seconds", type=float, default=3_600.0)
    options.add_argument("--only", default="")
    given = options.parse_args(arguments)
    given.to.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + given.seconds
    torch.set_num_threads(1)
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{platform.machine()} {capability}, PyTorch {torch.__version__}\n")
    print(HEAD)
    for name, group in GROUPS.items():
        if given.only and name not in given.only.split(","):
            continue
        path = given.to / f"{name.replace(', ', '-').replace(' ', '-').replace(',', '')}.csv"
        if not path.exists() and time.monotonic() < end:
            measure(group, path, lambda: time.monotonic() > end)
        if path.exists():
            print(row(name, group, read(path, group.recipe.epochs)), flush=True)


if __name__ == "__main__":
    main()
