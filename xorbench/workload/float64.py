"""The same training in double precision: the measure of how far float32 is from the truth.

NumPy and the derivative by hand: another arithmetic than PyTorch's, fast enough to be done once for
each distinct recipe of a run. Points, labels, order and initial weights are those of the case.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from xorbench.plan.case import Case
from xorbench.plan.recipe import Recipe
from xorbench.workload import digest
from xorbench.workload.seeding import generator
from xorbench.workload.xor import make_inputs

MOST_VISITS: Final = 50_000_000  # of points: some ten seconds
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Exact:
    """For what it holds, and the weights after each epoch in hex; None where it would take long."""

    batch_size: int
    drop_last: bool
    seed: int
    inputs_sha256: str
    weights: list[str] | None


def exact(case: Case, recipe: Recipe) -> Exact:
    """Train the case in double precision, whatever planted faults or engine it has."""
    inputs = make_inputs(recipe, case.seed)
    sha256 = digest.sha256(inputs.entries())
    head = (case.batch_size, case.drop_last, case.seed, sha256)
    if recipe.epochs * recipe.train_size > MOST_VISITS:
        return Exact(*head, None)
    points = inputs.train.points.double().numpy()
    labels = inputs.train.labels.double().numpy()
    weights = [w.detach().double().numpy().copy() for w in inputs.model.parameters()]
    shuffle = generator(case.seed, "shuffle")
    rate = recipe.learning_rate(case.batch_size)
    tape = []
    for _ in range(recipe.epochs):
        for index in batches(recipe, case, shuffle):
            slopes = gradients(points[index], labels[index], *weights)
            weights = [w - rate * slope for w, slope in zip(weights, slopes, strict=True)]
        tape.append(b"".join(w.astype("<f8").tobytes() for w in weights).hex())
    return Exact(*head, tape)


def batches(recipe: Recipe, case: Case, shuffle: torch.Generator) -> list[npt.NDArray[np.int64]]:
    """The points of each step of the next epoch, drawn as a `DataLoader` draws them."""
    torch.empty((), dtype=torch.int64).random_(generator=shuffle)  # its iterator's base seed
    order = torch.randperm(recipe.train_size, generator=shuffle).numpy()
    torch.randperm(recipe.train_size, generator=shuffle)  # begun when the first has run out
    size = case.batch_size
    steps = recipe.steps(size, case.drop_last)
    return [order[step * size : (step + 1) * size] for step in range(steps)]


def gradients(
    points: Array, labels: Array, w1: Array, b1: Array, w2: Array, b2: Array
) -> tuple[Array, Array, Array, Array]:
    """Of the mean binary cross-entropy by each weight, in the order of the `state_dict`."""
    hidden = np.tanh(points @ w1.T + b1)
    logits = hidden @ w2[0] + b2
    with np.errstate(over="ignore"):  # of a training that diverges
        slope = (1 / (1 + np.exp(-logits)) - labels) / len(labels)
    inner = slope[:, None] * w2 * (1 - hidden**2)
    return inner.T @ points, inner.sum(0), (slope @ hidden)[None, :], slope.sum(keepdims=True)
