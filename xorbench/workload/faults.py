"""Planting faults: each is a function that alters a training before its first step."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Final, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from xorbench.plan.faults import FaultSpec
from xorbench.workload.engines import Epoch
from xorbench.workload.loop import Training
from xorbench.workload.xor import Batch, XorPoints

Outcome = TypeVar("Outcome")
Tamper = Callable[[Iterable[Batch]], Iterable[Batch]]


def plant(training: Training, faults: Sequence[FaultSpec]) -> None:
    """Plant each of the faults in the training."""
    for fault in faults:
        TRAINING_FAULTS[fault.name](training, fault)


def flip_bit(tensor: Tensor, element: int, bit: int) -> None:
    """Flip one bit of one element of a contiguous tensor in place; both count modulo their size."""
    at = element % tensor.numel()
    width = tensor.element_size()
    cell = tensor.detach().reshape(-1)[at : at + 1].cpu().view(torch.uint8)
    position = bit % (8 * width)
    cell[position // 8] ^= 1 << (position % 8)
    with torch.no_grad():
        tensor.view(-1)[at] = cell.view(tensor.dtype)[0].to(tensor.device)


def _at_epoch_start(training: Training, act: Callable[[int], None]) -> None:
    """Call `act(epoch)` inside each epoch, before its first batch is drawn."""

    def led(epoch: Epoch, number: int) -> Tensor:
        act(number)
        return epoch()

    _around(training, led)


def _around(training: Training, act: Callable[[Epoch, int], Tensor]) -> None:
    """Have `act(epoch, number)` run each epoch, whatever the engine."""
    inner = training.parts.around

    def around(epoch: Epoch) -> Epoch:
        wrapped, numbers = inner(epoch), count()
        return lambda: act(wrapped, next(numbers))

    training.parts.around = around


def _wrap(
    training: Training, tampered: Callable[[Iterable[Batch], Tamper], Iterator[Batch]]
) -> None:
    inner = training.parts.tamper
    training.parts.tamper = lambda batches: tampered(batches, inner)


def _crash(training: Training, fault: FaultSpec) -> None:
    def act(epoch: int) -> None:
        if epoch == fault.number("epoch"):
            os.kill(os.getpid(), signal.SIGSEGV)

    _at_epoch_start(training, act)


def _hang(training: Training, fault: FaultSpec) -> None:
    def act(epoch: int) -> None:
        while epoch == fault.number("epoch"):
            time.sleep(1)

    _at_epoch_start(training, act)


def _delay(training: Training, fault: FaultSpec) -> None:
    def delayed(epoch: Epoch, number: int) -> Tensor:
        if number < fault.number("epoch"):
            return epoch()
        if "percent" in fault.numbers:
            return stretched(epoch, fault.number("percent"))
        time.sleep(fault.number("ms") / 1_000)
        return epoch()

    _around(training, delayed)


def stretched(act: Callable[[], Outcome], percent: int) -> Outcome:
    """Do it, and keep the processor busy for so many per cent of the time it took."""
    start = time.perf_counter()
    outcome = act()
    end = time.perf_counter()
    until = end + (end - start) * percent / 100
    while time.perf_counter() < until:
        pass
    return outcome


def _draw_extra(training: Training, fault: FaultSpec) -> None:
    def act(epoch: int) -> None:
        if epoch == fault.number("epoch"):
            torch.randint(2, (), generator=training.parts.shuffle)

    _at_epoch_start(training, act)


def _pin_draws(training: Training, _fault: FaultSpec) -> None:
    def act(_epoch: int) -> None:
        if training.case.pin_memory:
            torch.randint(2, (), generator=training.parts.shuffle)

    _at_epoch_start(training, act)


def _flip_weight(training: Training, fault: FaultSpec) -> None:
    steps = count()
    per_epoch = training.recipe.steps(training.case.batch_size, training.case.drop_last)
    target = fault.number("epoch") * per_epoch + fault.number("step")

    def after_step(*_: object) -> None:
        if next(steps) == target:
            flip_bit(
                next(training.model.parameters()), fault.number("element"), fault.number("bit")
            )

    training.parts.optimizer.register_step_post_hook(after_step)


def _flip_data(training: Training, fault: FaultSpec) -> None:
    flip_bit(training.inputs.train.points, fault.number("element"), fault.number("bit"))


def _skip_batch(training: Training, fault: FaultSpec) -> None:
    epochs = count()

    def tampered(batches: Iterable[Batch], inner: Tamper) -> Iterator[Batch]:
        here = next(epochs) == fault.number("epoch")
        for step, batch in enumerate(inner(batches)):
            if not (here and step == fault.number("step")):
                yield batch

    _wrap(training, tampered)


def _drop_ignored(training: Training, _fault: FaultSpec) -> None:
    training.parts.case = replace(training.case, drop_last=False)


class _Noisy(Dataset[Batch]):
    def __init__(self, data: XorPoints) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Batch:
        points, label = self._data[index]
        return points + 2**-10 * torch.randn(2), label


def _worker_noise(training: Training, _fault: FaultSpec) -> None:
    training.parts.data = _Noisy(training.inputs.train)


def _reload_flip(training: Training, fault: FaultSpec) -> None:
    save = training.saved

    def saved(state: dict[str, Tensor]) -> bytes:
        copy = {name: tensor.clone() for name, tensor in state.items()}
        flip_bit(next(iter(copy.values())), fault.number("element"), fault.number("bit"))
        return save(copy)

    training.saved = saved


TRAINING_FAULTS: Final[dict[str, Callable[[Training, FaultSpec], None]]] = {
    "crash": _crash,
    "hang": _hang,
    "delay": _delay,
    "flip-weight": _flip_weight,
    "flip-data": _flip_data,
    "skip-batch": _skip_batch,
    "draw-extra": _draw_extra,
    "pin-draws": _pin_draws,
    "drop-ignored": _drop_ignored,
    "worker-noise": _worker_noise,
    "reload-flip": _reload_flip,
}
