"""Ways to run one epoch of the same training. An engine is a function and its row."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from xorbench.plan.case import Case
from xorbench.workload.xor import Batch

Epoch = Callable[[], Tensor]


def _untouched(thing: Any) -> Any:
    return thing


@dataclass(slots=True)
class Parts:
    """What an engine is given: any data, model, loss and optimizer, and how to feed them.

    For planted faults alone, `tamper` stands between the batches and the step, and `around` is put
    around the finished epoch.
    """

    case: Case
    device: torch.device
    data: Dataset[Batch]
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    shuffle: torch.Generator
    tamper: Callable[[Iterable[Batch]], Iterable[Batch]] = field(default=_untouched)
    around: Callable[[Epoch], Epoch] = field(default=_untouched)


def loader(parts: Parts) -> Epoch:
    """The reference: the `DataLoader` loop of the tutorials; gives the last step's loss."""
    batches = make_loader(parts)
    device, non_blocking = parts.device, parts.case.non_blocking
    model, loss_of, optimizer = parts.model, parts.loss, parts.optimizer

    def epoch() -> Tensor:
        loss = torch.empty(())
        for points, labels in parts.tamper(batches):
            points, labels = (  # noqa: PLW2901 - the tutorials' own way to write it
                points.to(device, non_blocking=non_blocking),
                labels.to(device, non_blocking=non_blocking),
            )
            loss = loss_of(model(points), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.detach()

    return epoch


def make_loader(parts: Parts) -> DataLoader[Batch]:
    """The training `DataLoader` of a case."""
    case = parts.case
    # Forked loader workers start in milliseconds; elsewhere than on Linux forking is not safe.
    context = "fork" if case.num_workers and sys.platform == "linux" else None
    return DataLoader(
        parts.data,
        batch_size=case.batch_size,
        shuffle=True,
        drop_last=case.drop_last,
        pin_memory=case.pin_memory,
        num_workers=case.num_workers,
        multiprocessing_context=context,
        generator=parts.shuffle,
    )


ENGINES: Final[dict[str, Callable[[Parts], Epoch]]] = {"loader": loader}
