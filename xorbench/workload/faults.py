"""Injecting faults: each is a function that alters a training before its first step.

Its row in `plan.faults` says what it does.

A moment is a step of an epoch, both from 0. Steps are counted as the optimizer makes them, so that
a fault of the batches does not move the moment of another one.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Final, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from xorbench.plan.faults import FAULTS, FaultSpec
from xorbench.workload.engines import EpochFunction
from xorbench.workload.loop import Training
from xorbench.workload.xor import Batch, XorPoints

Returned = TypeVar("Returned")
Tamper = Callable[[Iterable[Batch]], Iterable[Batch]]


def inject(training: Training, faults: Sequence[FaultSpec]) -> None:
    """Inject each of the faults in the training."""
    for fault in faults:
        FAULTS[fault.name].do(training, fault)


def flip_bit(tensor: Tensor, element: int, bit: int) -> None:
    """Flip one bit of one element of a contiguous tensor in place; both count modulo their size."""
    _edit_bit(tensor, element, bit, lambda byte, mask: byte ^ mask)


def set_bit(tensor: Tensor, element: int, bit: int) -> None:
    """Set one bit of one element of a contiguous tensor in place; both count modulo their size."""
    _edit_bit(tensor, element, bit, lambda byte, mask: byte | mask)


def _edit_bit(
    tensor: Tensor, element: int, bit: int, edit: Callable[[Tensor, int], Tensor]
) -> None:
    at = element % tensor.numel()
    width = tensor.element_size()
    cell = tensor.detach().reshape(-1)[at : at + 1].cpu().clone().view(torch.uint8)
    position = bit % (8 * width)
    cell[position // 8] = edit(cell[position // 8], 1 << (position % 8))
    with torch.no_grad():
        tensor.view(-1)[at] = cell.view(tensor.dtype)[0].to(tensor.device)


def _at_epoch_start(training: Training, act: Callable[[int], None]) -> None:
    """Call `act(epoch)` inside each epoch, before its first batch is drawn."""

    def led(epoch: EpochFunction, number: int) -> Tensor:
        act(number)
        return epoch()

    _around(training, led)


def _around(training: Training, act: Callable[[EpochFunction, int], Tensor]) -> None:
    """Have `act(epoch, number)` run each epoch, whatever the engine."""
    inner = training.spec.around

    def around(epoch: EpochFunction) -> EpochFunction:
        wrapped, numbers = inner(epoch), count()
        return lambda: act(wrapped, next(numbers))

    training.spec.around = around


def _wrap(
    training: Training, tampered: Callable[[Iterable[Batch], Tamper], Iterator[Batch]]
) -> None:
    inner = training.spec.tamper
    training.spec.tamper = lambda batches: tampered(batches, inner)


def crash(training: Training, fault: FaultSpec) -> None:
    def act(epoch: int) -> None:
        if epoch == fault.number("epoch"):
            os.kill(os.getpid(), signal.SIGSEGV)

    _at_epoch_start(training, act)


def hang(training: Training, fault: FaultSpec) -> None:
    def act(epoch: int) -> None:
        while epoch == fault.number("epoch"):
            time.sleep(1)

    _at_epoch_start(training, act)


def delay(training: Training, fault: FaultSpec) -> None:
    def delayed(epoch: EpochFunction, number: int) -> Tensor:
        if number < fault.number("epoch"):
            return epoch()
        if "percent" in fault.numbers:
            return stretched(epoch, fault.number("percent"))
        time.sleep(fault.number("ms") / 1_000)
        return epoch()

    _around(training, delayed)


def slow_loader(training: Training, fault: FaultSpec) -> None:
    def tampered(batches: Iterable[Batch], inner: Tamper) -> Iterator[Batch]:
        for batch in inner(batches):
            time.sleep(fault.number("ms") / 1_000)
            yield batch

    _wrap(training, tampered)


def slow_optimizer(training: Training, fault: FaultSpec) -> None:
    step_clock(training, lambda _now: time.sleep(fault.number("ms") / 1_000))


def unpinned(training: Training, _fault: FaultSpec) -> None:
    def tampered(batches: Iterable[Batch], inner: Tamper) -> Iterator[Batch]:
        for batch in inner(batches):
            yield tuple(tensor.clone() for tensor in batch)  # type: ignore[misc]  # or a third one

    _wrap(training, tampered)


SPUN_S: Final = 2e-3  # sleep may end this much too late
LONG_S: Final = 50e-3  # from here on a delay is slept: others have work for the processor


def stretched(act: Callable[[], Returned], percent: int) -> Returned:
    """Do it, and let so many per cent of the time it took go by, to the end exactly.

    Awake, if it is not long: who sleeps comes back to cold caches, which would slow what follows.
    """
    start = time.perf_counter()
    outcome = act()
    end = time.perf_counter()
    until = end + (end - start) * percent / 100
    if until - end > LONG_S:
        time.sleep(until - end - SPUN_S)
    while time.perf_counter() < until:
        pass
    return outcome


def draw_extra(training: Training, fault: FaultSpec) -> None:
    def act(epoch: int) -> None:
        if epoch == fault.number("epoch"):
            torch.randint(2, (), generator=training.spec.shuffle)

    _at_epoch_start(training, act)


def pin_draws(training: Training, _fault: FaultSpec) -> None:
    def act(_epoch: int) -> None:
        if training.case.pin_memory:
            torch.randint(2, (), generator=training.spec.shuffle)

    _at_epoch_start(training, act)


class StepClock:
    """Where a training stands: its epoch, and its step within the epoch."""

    def __init__(self, training: Training) -> None:
        self.epoch, self.step = -1, 0
        _at_epoch_start(training, self._begin)

    def _begin(self, epoch: int) -> None:
        self.epoch, self.step = epoch, 0

    def stepped(self, *_: object) -> None:
        """The optimizer has made one more step."""
        self.step += 1

    def due(self, fault: FaultSpec) -> bool:
        """Whether this is the fault's moment, or a later one of a fault that stays."""
        return _due(fault, self.epoch, self.step)


STAYING: Final = ("stuck", "other")


def _due(fault: FaultSpec, epoch: int, step: int) -> bool:
    now, then = (epoch, step), (fault.number("epoch"), fault.number("step"))
    return now == then or (now > then and fault.name.split("-")[0] in STAYING)


def step_clock(
    training: Training, act: Callable[[StepClock], None], *, after: bool = False
) -> StepClock:
    """Call `act` before, or after, each step of the optimizer, with the moment of that step."""
    now, optimizer = StepClock(training), training.spec.optimizer
    if after:
        optimizer.register_step_post_hook(lambda *_: act(now))
    else:
        optimizer.register_step_pre_hook(lambda *_: act(now))
    optimizer.register_step_post_hook(now.stepped)
    return now


def nothing(_now: StepClock) -> None:
    """Of a fault that acts elsewhere than at the optimizer's step."""


def _double(tensor: Tensor, element: int, bit: int) -> None:
    flip_bit(tensor, element, bit)
    flip_bit(tensor, element, bit + 1)


def _random(tensor: Tensor, element: int, bit: int) -> None:
    draw = torch.randn((), generator=torch.Generator().manual_seed(1_000 * element + bit))
    with torch.no_grad():
        tensor.view(-1)[element % tensor.numel()] = draw


def _nan(tensor: Tensor, element: int, _bit: int) -> None:
    with torch.no_grad():
        tensor.view(-1)[element % tensor.numel()] = torch.nan


DAMAGES: Final[dict[str, Callable[[Tensor, int, int], None]]] = {
    "flip": flip_bit,
    "double": _double,
    "stuck": set_bit,
    "random": _random,
    "nan": _nan,
}
Damage = Callable[[Tensor], None]


def _in_weight(training: Training, fault: FaultSpec, damage: Damage) -> None:
    weights = list(training.model.parameters())
    weight = weights[fault.number("tensor") % len(weights)]
    step_clock(training, lambda now: damage(weight) if now.due(fault) else None, after=True)


def _in_gradient(training: Training, fault: FaultSpec, damage: Damage) -> None:
    weights = list(training.model.parameters())
    weight = weights[fault.number("tensor") % len(weights)]

    def act(now: StepClock) -> None:
        if now.due(fault) and weight.grad is not None:
            damage(weight.grad)

    step_clock(training, act)


def _in_activation(training: Training, fault: FaultSpec, damage: Damage) -> None:
    model = training.model
    layer = (model.act_fn, model.layer2)[fault.number("tensor") % 2]
    now = step_clock(training, nothing)

    def after_forward(module: nn.Module, _inputs: object, output: Tensor) -> None:
        if module.training and now.due(fault):
            damage(output.data)  # behind autograd's back, as a fault of the memory would be

    layer.register_forward_hook(after_forward)


def _in_batch(training: Training, fault: FaultSpec, damage: Damage) -> None:
    def act(batch: Batch) -> Iterator[Batch]:
        points = batch[0].clone()
        damage(points)
        yield _with(batch, 0, points)

    _at_batch(training, fault, act)


def _in_data(training: Training, _fault: FaultSpec, damage: Damage) -> None:
    damage(training.inputs.train.points)


IN_PLACES: Final[dict[str, Callable[[Training, FaultSpec, Damage], None]]] = {
    "weight": _in_weight,
    "gradient": _in_gradient,
    "activation": _in_activation,
    "batch": _in_batch,
    "data": _in_data,
}


def tensor_damage(training: Training, fault: FaultSpec) -> None:
    """Damage one element of one tensor: which damage and where are the fault's name."""
    damage, place = fault.name.split("-")
    element, bit = fault.number("element"), fault.number("bit")
    IN_PLACES[place](training, fault, lambda tensor: DAMAGES[damage](tensor, element, bit))


def _with(batch: Batch, index: int, tensor: Tensor) -> Batch:
    """The batch with one of its tensors replaced."""
    whole = list(batch)
    whole[index] = tensor
    return tuple(whole)  # type: ignore[return-value]  # a traced batch has a third tensor


def _at_batch(
    training: Training, fault: FaultSpec, act: Callable[[Batch], Iterator[Batch]]
) -> None:
    """Have `act` yield what is trained on in the place of one batch."""
    epochs = count()

    def tampered(batches: Iterable[Batch], inner: Tamper) -> Iterator[Batch]:
        epoch = next(epochs)
        for step, batch in enumerate(inner(batches)):
            yield from act(batch) if _due(fault, epoch, step) else (batch,)

    _wrap(training, tampered)


def skip_batch(training: Training, fault: FaultSpec) -> None:
    _at_batch(training, fault, lambda _batch: iter(()))


def repeat_batch(training: Training, fault: FaultSpec) -> None:
    _at_batch(training, fault, lambda batch: iter((batch, batch)))


def swap_batches(training: Training, fault: FaultSpec) -> None:
    epochs = count()

    def tampered(batches: Iterable[Batch], inner: Tamper) -> Iterator[Batch]:
        here, checked = next(epochs) == fault.number("epoch"), None
        for step, batch in enumerate(inner(batches)):
            if here and step == fault.number("step"):
                checked = batch
                continue
            yield batch
            if checked is not None:
                yield checked
                checked = None
        if checked is not None:
            yield checked

    _wrap(training, tampered)


def flip_label(training: Training, fault: FaultSpec) -> None:
    def act(batch: Batch) -> Iterator[Batch]:
        labels = batch[1].clone()
        at = fault.number("element") % len(labels)
        labels[at] = 1 - labels[at]
        yield _with(batch, 1, labels)

    _at_batch(training, fault, act)


def keep_gradients(training: Training, fault: FaultSpec) -> None:
    now, optimizer = step_clock(training, nothing), training.spec.optimizer
    whole = optimizer.zero_grad

    def zero_grad(set_to_none: bool = True) -> None:
        if not now.due(fault):
            whole(set_to_none)

    setattr(optimizer, "zero_grad", zero_grad)  # noqa: B010 - an instance's own method


def other_lr(training: Training, fault: FaultSpec) -> None:
    rate = training.recipe.learning_rate(training.case.batch_size)

    def act(now: StepClock) -> None:
        if now.due(fault):
            for group in training.spec.optimizer.param_groups:
                group["lr"] = rate * (1 + fault.number("percent") / 100)

    step_clock(training, act)


def race(training: Training, fault: FaultSpec) -> None:
    weight = next(training.model.parameters())
    took_s = 0.0

    def act(now: StepClock) -> None:
        nonlocal took_s
        if now.epoch < fault.number("epoch"):
            return
        thread = threading.Thread(target=lambda: sum(range(3_000)))
        begun, before_s = time.perf_counter(), took_s
        thread.start()
        thread.join()
        took_s = time.perf_counter() - begun
        if took_s > before_s:  # about every other time, on any machine, calm or busy
            flip_bit(weight, 0, 0)

    step_clock(training, act, after=True)


def grow(training: Training, fault: FaultSpec) -> None:
    kept: list[bytes] = []

    def act(epoch: int) -> None:
        if epoch >= fault.number("epoch"):
            kept.append(os.urandom(4_096) * (256 * fault.number("mib")))

    _at_epoch_start(training, act)


def drop_ignored(training: Training, _fault: FaultSpec) -> None:
    training.spec.case = replace(training.case, drop_last=False)


class _Noisy(Dataset[Batch]):
    def __init__(self, data: XorPoints) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Batch:
        points, label = self._data[index]
        return points + 2**-10 * torch.randn(2), label


def worker_noise(training: Training, _fault: FaultSpec) -> None:
    training.spec.data = _Noisy(training.inputs.train)


def reload_flip(training: Training, fault: FaultSpec) -> None:
    save = training.saved

    def saved(state: dict[str, Tensor]) -> bytes:
        copy = {name: tensor.clone() for name, tensor in state.items()}
        flip_bit(next(iter(copy.values())), fault.number("element"), fault.number("bit"))
        return save(copy)

    training.saved = saved


def slow_clock(training: Training, fault: FaultSpec) -> None:
    sound, share = training.clock, 1 / (1 + fault.number("percent") / 100)
    training.clock = lambda: share * sound()


def stopped_clock(training: Training, fault: FaultSpec) -> None:
    sound, epoch = training.clock, fault.number("epoch")
    training.clock = lambda: 0.0 if training.epoch >= epoch else sound()


def backward_clock(training: Training, fault: FaultSpec) -> None:
    sound, epoch = training.clock, fault.number("epoch")
    readings = count()
    training.clock = lambda: sound() - (next(readings) if training.epoch == epoch else 0.0)
