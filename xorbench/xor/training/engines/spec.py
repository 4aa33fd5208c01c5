"""What an engine is given, and what every engine makes of it in the same way."""

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
    """The engine cannot train exactly what it was given, and so trains nothing."""


EpochFunction = Callable[[], Tensor]
"""Trains one epoch; gives the last step's loss, a scalar."""
LossOf = Callable[[Tensor, Tensor], Tensor]


def untouched(thing: Any) -> Any:
    """The thing as it is."""
    return thing


@dataclass(slots=True)
class TrainingSpec:
    """What an engine is given: any data, model, loss and optimizer, and how to feed them.

    For injected faults alone, `tamper` stands between the batches and the step, and `around` is put
    around the finished epoch. A fault may change these, `case`, `data` and `shuffle`, and may hook
    into the optimizer's step: every engine supports these or raises `UnsupportedCase`. What it did
    inside `model` or `loss` would be captured once.
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
    """Epochs that call `step(points, labels)`, which returns the loss, on each of the batches."""

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
    """The tensors that a data set holds, one row a sample.

    Raises `UnsupportedCase` for a data set that makes its samples in another way.
    """
    if type(data) is XorPoints or type(data) is TensorDataset:
        return tuple(data.tensors)
    raise UnsupportedCase(
        f"the {engine} engine takes data that are tensors, not {type(data).__name__}",
        "the loader engine takes any",
    )


def on_device(data: Dataset[Batch], device: torch.device) -> Dataset[Batch]:
    """The same data, kept on the device."""
    points, labels = tensors_of(data, "loader")
    return XorPoints(points.to(device), labels.to(device))


class Orders:
    """The order of each epoch, drawn from `shuffle` exactly as a `DataLoader` draws it.

    Three draws an epoch: the base seed of its iterator, the order, and the order that its sampler
    begins when the first has run out, and throws away.
    """

    def __init__(self, size: int, shuffle: torch.Generator) -> None:
        self._size, self._shuffle = size, shuffle

    def begin(self) -> Tensor:
        """The order of the next epoch, (size,) int64 on the CPU."""
        torch.empty((), dtype=torch.int64).random_(generator=self._shuffle)
        return torch.randperm(self._size, generator=self._shuffle)

    def end(self) -> None:
        """Throw away what the sampler draws at the end of an epoch."""
        torch.randperm(self._size, generator=self._shuffle)


class Batches:
    """An epoch's batches without a `DataLoader`: gathered at once, cut in pieces.

    What has to move to the device moves in one copy, from page-locked memory where `pin_memory`
    says so and there is an accelerator.
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
        """The first rows of the data, on the device, without a draw."""
        points, labels = (tensor[:size].to(self._device) for tensor in self._tensors)
        return points, labels

    def _gathered(self, tensor: Tensor, order: Tensor) -> Tensor:
        rows = tensor.index_select(0, order.to(tensor.device))
        if self._pin:
            rows = rows.pin_memory()
        return rows.to(self._device, non_blocking=self._non_blocking)


def slices(size: int, batch_size: int, drop_last: bool) -> list[slice]:
    """The consecutive pieces of an epoch's order, one a step; the last may be short."""
    starts = range(0, size - batch_size + 1 if drop_last else size, batch_size)
    return [slice(start, min(start + batch_size, size)) for start in starts]
