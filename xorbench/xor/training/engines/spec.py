"""The inputs of an engine, and the parts that all engines share."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from xorbench.errors import XorbenchError
from xorbench.xor.matrix.case import Case
from xorbench.xor.training.problem import Batch, XorPoints


class UnsupportedCase(XorbenchError):
    """The engine does not support the training exactly, and refuses it."""


EpochFunction = Callable[[], Tensor]
"""Trains one epoch and returns the last step's loss, a scalar."""
LossOf = Callable[[Tensor, Tensor], Tensor]


def untouched(thing: Any) -> Any:
    """Return the argument unchanged."""
    return thing


@dataclass(slots=True)
class TrainingSpec:
    """The inputs of an engine: data, model, loss, optimizer, and the settings of data loading.

    Injected faults use `tamper`, which processes the batches before the step, and `around`, which
    wraps the epoch function. A fault may change these, `case`, `data` and `shuffle`, and may hook
    into the optimizer's step; every engine supports this or raises `UnsupportedCase`. A change
    inside `model` or `loss` would be captured only once.
    """

    case: Case
    device: torch.device
    data: Dataset[Batch]
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    shuffle: torch.Generator
    tamper: Callable[[Iterable[Batch]], Iterable[Batch]] = field(default=untouched)
    around: Callable[[EpochFunction], EpochFunction] = field(default=untouched)


def epochs_of(
    spec: TrainingSpec, batches: Iterable[Batch], step: Callable[[Tensor, Tensor], Tensor]
) -> EpochFunction:
    """An epoch function that calls `step(points, labels)`, which returns the loss, per batch."""

    def epoch() -> Tensor:
        loss = torch.empty(())
        for points, labels in spec.tamper(batches):
            loss = step(points, labels)
        return loss.detach()

    return epoch


AUTOCAST: Final = {"bfloat16": torch.bfloat16}


def loss_function(spec: TrainingSpec) -> LossOf:
    """The loss of a batch, in the case's precision."""
    model, loss = spec.model, spec.loss
    if spec.case.dtype not in AUTOCAST:
        return lambda points, labels: loss(model(points), labels)
    kind, dtype = spec.device.type, AUTOCAST[spec.case.dtype]

    def cast(points: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(kind, dtype):
            return loss(model(points), labels)

    return cast


def tensors_of(data: Dataset[Batch], engine: str) -> tuple[Tensor, ...]:
    """The tensors of a data set, one row per sample.

    Raises `UnsupportedCase` for a data set that is not made of tensors.
    """
    if type(data) is XorPoints or type(data) is TensorDataset:
        return tuple(data.tensors)
    raise UnsupportedCase(
        f"the {engine} engine supports only data in tensors, not {type(data).__name__}",
        "use the loader engine, which supports any data",
    )


def on_device(data: Dataset[Batch], device: torch.device) -> Dataset[Batch]:
    """The same data, stored on the device."""
    points, labels = tensors_of(data, "loader")
    return XorPoints(points.to(device), labels.to(device))


class Orders:
    """The order of each epoch, generated from `shuffle` exactly like a `DataLoader`'s.

    Each epoch makes three random draws: the base seed of the iterator, the order, and a second
    order that the sampler starts at the end of the epoch and discards.
    """

    def __init__(self, size: int, shuffle: torch.Generator) -> None:
        self._size, self._shuffle = size, shuffle

    def begin(self) -> Tensor:
        """The order of the next epoch, (size,) int64 on the CPU."""
        torch.empty((), dtype=torch.int64).random_(generator=self._shuffle)
        return torch.randperm(self._size, generator=self._shuffle)

    def end(self) -> None:
        """Make and discard the sampler's draw at the end of an epoch."""
        torch.randperm(self._size, generator=self._shuffle)


class Batches:
    """An epoch's batches without a `DataLoader`: gathered at once and sliced.

    They are copied to the device at once, from page-locked memory if `pin_memory` is set and there
    is an accelerator.
    """

    def __init__(self, spec: TrainingSpec, engine: str) -> None:
        case = spec.case
        self._tensors = tensors_of(spec.data, engine)
        self.size = len(self._tensors[0])
        self._orders = Orders(self.size, spec.shuffle)
        self.slices = slices(self.size, case.batch_size, case.drop_last)
        self._device, self._non_blocking = spec.device, case.non_blocking
        self._pin = case.pin_memory and torch.accelerator.is_available()

    def __iter__(self) -> Iterator[Batch]:
        order = self._orders.begin()[: self.slices[-1].stop]
        points, labels = (self._gathered(tensor, order) for tensor in self._tensors)
        for piece in self.slices:
            yield points[piece], labels[piece]
        self._orders.end()

    def example(self, size: int) -> Batch:
        """The first rows of the data on the device, without a random draw."""
        points, labels = (tensor[:size].to(self._device) for tensor in self._tensors)
        return points, labels

    def _gathered(self, tensor: Tensor, order: Tensor) -> Tensor:
        rows = tensor.index_select(0, order.to(tensor.device))
        if self._pin:
            rows = rows.pin_memory()
        return rows.to(self._device, non_blocking=self._non_blocking)


def slices(size: int, batch_size: int, drop_last: bool) -> list[slice]:
    """The consecutive pieces of an epoch's order, one per step; the last may be short."""
    starts = range(0, size - batch_size + 1 if drop_last else size, batch_size)
    return [slice(start, min(start + batch_size, size)) for start in starts]
