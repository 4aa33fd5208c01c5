"""Injection of faults: each is a function that alters a training before its first step.

Its row in `xor.matrix.faults` describes it.

A moment is a step of an epoch, both counted from 0. Steps are steps of the optimizer, so that a
fault of the batches does not change the moment of a second fault.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Final, NoReturn, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from xorbench.xor.matrix.faults import FAULTS, FaultSpec
from xorbench.xor.training.engines import EpochFunction
from xorbench.xor.training.problem import Batch, XorPoints
from xorbench.xor.training.training import Training

Returned = TypeVar("Returned")


def inject(training: Training, faults: Sequence[FaultSpec]) -> None:
    """Inject all faults in the training."""
    for fault in faults:
        FAULTS[fault.name].do(training, fault)


def flip_bit(tensor: Tensor, element: int, bit: int) -> None:
    """Flip one bit of one element of a contiguous tensor in place; indices wrap around."""
    _edit_bit(tensor, element, bit, lambda byte, mask: byte ^ mask)


def set_bit(tensor: Tensor, element: int, bit: int) -> None:
    """Set one bit of one element of a contiguous tensor in place; indices wrap around."""
    _edit_bit(tensor, element, bit, lambda byte, mask: byte | mask)


def _edit_bit(
    tensor: Tensor, element: int, bit: int, edit: Callable[[Tensor, int], Tensor]
) -> None:
    index = element % tensor.numel()
    position = bit % (8 * tensor.element_size())
    cell = tensor.detach().reshape(-1)[index : index + 1].cpu().clone().view(torch.uint8)
    cell[position // 8] = edit(cell[position // 8], 1 << (position % 8))
    _put(tensor, index, cell.view(tensor.dtype)[0].to(tensor.device))


def _put(tensor: Tensor, element: int, value: Tensor | float) -> None:
    with torch.no_grad():
        tensor.view(-1)[element % tensor.numel()] = value


def _around(training: Training, run: Callable[[EpochFunction, int], Tensor]) -> None:
    """Wrap each epoch in `run(epoch, number)` for any engine."""
    inner = training.spec.around

    def around(epoch: EpochFunction) -> EpochFunction:
        wrapped, numbers = inner(epoch), count()
        return lambda: run(wrapped, next(numbers))

    training.spec.around = around


def _at_epoch_start(training: Training, act: Callable[[int], object]) -> None:
    """Call `act(epoch)` within each epoch before its first batch."""

    def run(epoch: EpochFunction, number: int) -> Tensor:
        act(number)
        return epoch()

    _around(training, run)


def _at_epoch(training: Training, fault: FaultSpec, act: Callable[[], object]) -> None:
    """Call `act()` within the fault's epoch before its first batch."""
    _at_epoch_start(training, lambda number: number == fault.number("epoch") and act())


def _change_batches(
    training: Training, change: Callable[[Iterable[Batch]], Iterator[Batch]]
) -> None:
    inner = training.spec.tamper
    training.spec.tamper = lambda batches: change(inner(batches))


def _at_each_batch(training: Training, change: Callable[[Batch], Batch]) -> None:
    def changed(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            yield change(batch)

    _change_batches(training, changed)


def _at_batch(
    training: Training, fault: FaultSpec, act: Callable[[Batch], Iterable[Batch]]
) -> None:
    """Replace one batch by the batches of `act`."""
    epochs = count()

    def changed(batches: Iterable[Batch]) -> Iterator[Batch]:
        epoch = next(epochs)
        for step, batch in enumerate(batches):
            yield from act(batch) if _due(fault, epoch, step) else (batch,)

    _change_batches(training, changed)


def _in_batch(
    training: Training, fault: FaultSpec, index: int, edit: Callable[[Tensor], None]
) -> None:
    """Edit a copy of one tensor of one batch, its points (0) or its labels (1)."""

    def act(batch: Batch) -> Iterator[Batch]:
        tensors = list(batch)
        tensors[index] = tensors[index].clone()
        edit(tensors[index])
        yield tuple(tensors)  # type: ignore[misc]  # a traced batch has a third tensor

    _at_batch(training, fault, act)


PERMANENT: Final = ("stuck", "other")


def _due(fault: FaultSpec, epoch: int, step: int) -> bool:
    """Whether this is the fault's moment, or a later one for a permanent fault."""
    now, then = (epoch, step), (fault.number("epoch"), fault.number("step"))
    return now == then or (now > then and fault.name.split("-")[0] in PERMANENT)


class StepClock:
    """The position of a training: epoch, and step within the epoch."""

    def __init__(self, training: Training) -> None:
        self.epoch, self.step = -1, 0
        _at_epoch_start(training, self._begin)

    def _begin(self, epoch: int) -> None:
        self.epoch, self.step = epoch, 0

    def stepped(self, *_: object) -> None:
        """Count a step of the optimizer."""
        self.step += 1

    def due(self, fault: FaultSpec) -> bool:
        """Whether the fault acts at this step."""
        return _due(fault, self.epoch, self.step)


def step_clock(
    training: Training,
    act: Callable[[StepClock], None] = lambda _now: None,
    *,
    after: bool = False,
) -> StepClock:
    """Call `act` with the moment before or after each step of the optimizer."""
    now, optimizer = StepClock(training), training.spec.optimizer
    register = optimizer.register_step_post_hook if after else optimizer.register_step_pre_hook
    register(lambda *_: act(now))
    optimizer.register_step_post_hook(now.stepped)
    return now


def _at_step(
    training: Training, fault: FaultSpec, act: Callable[[], None], *, after: bool = False
) -> None:
    """Call `act()` before or after the fault's step of the optimizer."""
    step_clock(training, lambda now: act() if now.due(fault) else None, after=after)


def _double(tensor: Tensor, element: int, bit: int) -> None:
    flip_bit(tensor, element, bit)
    flip_bit(tensor, element, bit + 1)


def _random(tensor: Tensor, element: int, bit: int) -> None:
    seeded = torch.Generator().manual_seed(1_000 * element + bit)
    _put(tensor, element, torch.randn((), generator=seeded))


def _nan(tensor: Tensor, element: int, _bit: int) -> None:
    _put(tensor, element, torch.nan)


DAMAGES: Final[dict[str, Callable[[Tensor, int, int], None]]] = {
    "flip": flip_bit,
    "double": _double,
    "stuck": set_bit,
    "random": _random,
    "nan": _nan,
}
Damage = Callable[[Tensor], None]


def _weight(training: Training, fault: FaultSpec) -> Tensor:
    weights = list(training.model.parameters())
    return weights[fault.number("tensor") % len(weights)]


def _damage_weight(training: Training, fault: FaultSpec, damage: Damage) -> None:
    weight = _weight(training, fault)
    _at_step(training, fault, lambda: damage(weight), after=True)


def _damage_gradient(training: Training, fault: FaultSpec, damage: Damage) -> None:
    weight = _weight(training, fault)
    _at_step(training, fault, lambda: None if weight.grad is None else damage(weight.grad))


def _damage_activation(training: Training, fault: FaultSpec, damage: Damage) -> None:
    model = training.model
    layer = (model.act_fn, model.layer2)[fault.number("tensor") % 2]
    now = step_clock(training)

    def after_forward(module: nn.Module, _inputs: object, output: Tensor) -> None:
        if module.training and now.due(fault):
            damage(output.data)  # hidden from autograd, like a memory fault

    layer.register_forward_hook(after_forward)


IN_PLACES: Final[dict[str, Callable[[Training, FaultSpec, Damage], None]]] = {
    "weight": _damage_weight,
    "gradient": _damage_gradient,
    "activation": _damage_activation,
    "batch": lambda training, fault, damage: _in_batch(training, fault, 0, damage),
    "data": lambda training, _fault, damage: damage(training.inputs.train.points),
}


def tensor_damage(training: Training, fault: FaultSpec) -> None:
    """Damage one element of one tensor; the fault's name gives damage and tensor."""
    damage, place = fault.name.split("-")
    element, bit = fault.number("element"), fault.number("bit")
    IN_PLACES[place](training, fault, lambda tensor: DAMAGES[damage](tensor, element, bit))


def crash(training: Training, fault: FaultSpec) -> None:
    _at_epoch(training, fault, lambda: os.kill(os.getpid(), signal.SIGSEGV))


def hang(training: Training, fault: FaultSpec) -> None:
    def sleep_forever() -> NoReturn:
        while True:
            time.sleep(1)

    _at_epoch(training, fault, sleep_forever)


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
    def delayed(batch: Batch) -> Batch:
        time.sleep(fault.number("ms") / 1_000)
        return batch

    _at_each_batch(training, delayed)


def slow_optimizer(training: Training, fault: FaultSpec) -> None:
    step_clock(training, lambda _now: time.sleep(fault.number("ms") / 1_000))


def unpinned(training: Training, _fault: FaultSpec) -> None:
    def copied(batch: Batch) -> Batch:
        return tuple(tensor.clone() for tensor in batch)  # type: ignore[return-value]

    _at_each_batch(training, copied)


SPUN_S: Final = 2e-3  # sleep may end this much late
LONG_S: Final = 50e-3  # longer delays sleep, which frees the processor


def stretched(act: Callable[[], Returned], percent: int) -> Returned:
    """Call `act`, then wait for exactly `percent` per cent of its duration.

    Short delays are busy waits, since sleeping gives cold caches, which would slow later work.
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
    _at_epoch(training, fault, lambda: _draw(training))


def pin_draws(training: Training, _fault: FaultSpec) -> None:
    if training.case.pin_memory:
        _at_epoch_start(training, lambda _epoch: _draw(training))


def _draw(training: Training) -> None:
    torch.randint(2, (), generator=training.spec.shuffle)


def skip_batch(training: Training, fault: FaultSpec) -> None:
    _at_batch(training, fault, lambda _batch: ())


def repeat_batch(training: Training, fault: FaultSpec) -> None:
    _at_batch(training, fault, lambda batch: (batch, batch))


def swap_batches(training: Training, fault: FaultSpec) -> None:
    epochs, moment = count(), (fault.number("epoch"), fault.number("step"))

    def swapped(batches: Iterable[Batch]) -> Iterator[Batch]:
        epoch, waiting = next(epochs), []
        for step, batch in enumerate(batches):
            if (epoch, step) == moment:
                waiting = [batch]
                continue
            yield batch
            yield from waiting
            waiting = []
        yield from waiting

    _change_batches(training, swapped)


def flip_label(training: Training, fault: FaultSpec) -> None:
    def flip(labels: Tensor) -> None:
        index = fault.number("element") % len(labels)
        labels[index] = 1 - labels[index]

    _in_batch(training, fault, 1, flip)


def keep_gradients(training: Training, fault: FaultSpec) -> None:
    now, optimizer = step_clock(training), training.spec.optimizer
    original = optimizer.zero_grad

    def zero_grad(set_to_none: bool = True) -> None:
        if not now.due(fault):
            original(set_to_none)

    setattr(optimizer, "zero_grad", zero_grad)  # noqa: B010 - an instance's own method


def other_lr(training: Training, fault: FaultSpec) -> None:
    rate = training.recipe.learning_rate(training.case.batch_size)

    def set_rate() -> None:
        for group in training.spec.optimizer.param_groups:
            group["lr"] = rate * (1 + fault.number("percent") / 100)

    _at_step(training, fault, set_rate)


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
        if took_s > before_s:  # in about half of all cases on any machine
            flip_bit(weight, 0, 0)

    step_clock(training, act, after=True)


def grow(training: Training, fault: FaultSpec) -> None:
    held: list[bytes] = []

    def act(epoch: int) -> None:
        if epoch >= fault.number("epoch"):
            held.append(os.urandom(4_096) * (256 * fault.number("mib")))

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
    clock, share = training.clock, 1 / (1 + fault.number("percent") / 100)
    training.clock = lambda: share * clock()


def stopped_clock(training: Training, fault: FaultSpec) -> None:
    clock, epoch = training.clock, fault.number("epoch")
    training.clock = lambda: 0.0 if training.epoch >= epoch else clock()


def backward_clock(training: Training, fault: FaultSpec) -> None:
    clock, epoch = training.clock, fault.number("epoch")
    readings = count()
    training.clock = lambda: clock() - (next(readings) if training.epoch == epoch else 0.0)
