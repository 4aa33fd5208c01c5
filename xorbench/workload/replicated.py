"""One training by several processes: each takes its share of every global batch.

PyTorch's `DistributedDataParallel` averages the gradients. Every process draws the same order of
the same points, so that the union of the shares is the batch that one process alone would train.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from xorbench.plan.case import Case
from xorbench.plan.faults import FaultSpec
from xorbench.plan.recipe import Recipe
from xorbench.workload.faults import inject
from xorbench.workload.loop import Training
from xorbench.workload.xor import Batch


def replicated(
    case: Case, recipe: Recipe, index: int, members: int, faults: Sequence[FaultSpec] = ()
) -> Training:
    """The training of replica `index` of `members`; the process group must stand.

    Raises `ValueError` where the batch cannot be shared out evenly: the mean of the shares' means
    would not be the mean of the batch.
    """
    if case.batch_size % members or not case.drop_last:
        raise ValueError(f"{members} replicas cannot share batches of {case.batch_size} evenly")

    def alter(training: Training) -> None:
        training.spec.model = DistributedDataParallel(training.model)
        training.spec.tamper = share(index, members)
        inject(training, faults)

    return Training(case, recipe, alter=alter)


def share(index: int, members: int) -> Callable[[Iterable[Batch]], Iterator[Batch]]:
    """Of each batch the rows that are this replica's."""

    def shared(batches: Iterable[Batch]) -> Iterator[Batch]:
        for points, labels in batches:
            size = len(labels) // members
            rows = slice(index * size, (index + 1) * size)
            yield points[rows], labels[rows]

    return shared


def ulps(state: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of two networks' weights, in ulps at the largest weight."""
    a, b = (torch.cat([t.reshape(-1) for t in s.values()]).numpy() for s in (state, other))
    return float(np.max(np.abs(a.astype(float) - b)) / np.spacing(np.max(np.abs(b))))
