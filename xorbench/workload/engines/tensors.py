"""The step of the tutorials, fed without a `DataLoader`."""

import torch
from torch import Tensor

from xorbench.workload.engines.spec import Batches, EpochFunction, TrainingSpec, loss_function


def tensor(spec: TrainingSpec) -> EpochFunction:
    """Autograd and the optimizer as in the loader engine; batches are views of a gathered epoch."""
    batches = Batches(spec, "tensor")
    loss_of, optimizer = loss_function(spec), spec.optimizer

    def epoch() -> Tensor:
        loss = torch.empty(())
        for points, labels in spec.tamper(batches):
            loss = loss_of(points, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.detach()

    return epoch
