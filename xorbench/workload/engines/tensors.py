"""The step of the tutorials, fed without a `DataLoader`."""

import torch
from torch import Tensor

from xorbench.workload.engines.parts import Batches, Epoch, Parts, loss_function


def tensor(parts: Parts) -> Epoch:
    """Autograd and the optimizer as in the loader engine; batches are views of a gathered epoch."""
    batches = Batches(parts, "tensor")
    loss_of, optimizer = loss_function(parts), parts.optimizer

    def epoch() -> Tensor:
        loss = torch.empty(())
        for points, labels in parts.tamper(batches):
            loss = loss_of(points, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.detach()

    return epoch
