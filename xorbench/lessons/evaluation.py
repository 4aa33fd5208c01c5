"""Lessons on evaluating, on loading data, and on memory."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.data import DataLoader

from xorbench.lessons.finding import (
    LessonFinding,
    SpeedRatio,
    accelerator,
    found,
    time_ratio,
    untried,
)
from xorbench.lessons.networks import (
    RECIPE,
    MakeNetwork,
    WithDropout,
    fresh,
    points,
    simple,
    train,
)
from xorbench.workload.loop import synchronize
from xorbench.workload.seeding import forked

FORWARDS: Final = 20  # forward passes timed together
BIG_BATCH: Final = 2**20  # points of 8 bytes: 8 MiB
PINNED_PAIRS: Final = 31

Guard = Callable[[], AbstractContextManager[object]]


def no_grad_memory(guard: Guard = torch.no_grad) -> LessonFinding:
    """Count the bytes that a forward pass over the test points keeps for the way back."""
    plain, guarded = _kept_bytes(torch.enable_grad), _kept_bytes(guard)
    return found(
        guarded == 0 < plain,
        f"{plain:,} bytes kept for the way back, with `no_grad` {guarded:,}, a forward pass of"
        f" {RECIPE.test_size} points",
    )


def _kept_bytes(guard: Guard) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    network, data = fresh(simple), points()
    with guard(), saved_tensors_hooks(keep, lambda tensor: tensor):
        network(data.points)
    return sum(kept.values())


def no_grad_time(guard: Guard = torch.no_grad) -> LessonFinding:
    """Time forward passes over one batch with and without it, in turn."""
    network, batch = fresh(simple), points().points[:128]

    def plain() -> None:
        for _ in range(FORWARDS):
            network(batch)

    def guarded() -> None:
        with guard():
            plain()

    ratio = time_ratio(plain, guarded)
    return found(ratio.low > 1, f"without `no_grad` a forward pass takes {ratio}")


def modes(make: MakeNetwork = simple, dropping: MakeNetwork = WithDropout) -> LessonFinding:
    """Answer the test points in both modes, and see how many answers differ by a bit."""
    own, other = _differing(make), _differing(dropping)
    return found(
        own == 0 < other,
        f"{own} of {RECIPE.test_size} outputs differ between the modes; with dropout {other}",
    )


@torch.no_grad()
def _differing(make: MakeNetwork) -> int:
    network, data = fresh(make), points()
    with forked(0, "dropout"):
        training, evaluating = network.train()(data.points), network.eval()(data.points)
    return int((training != evaluating).sum())


def even_batches(drop_last: bool = True) -> LessonFinding:
    """Take an epoch's batches with and without it, and list their sizes."""
    with_it, without = (_sizes(drop) for drop in (drop_last, False))
    return found(
        len(with_it) == 1 < len(without),
        f"{RECIPE.train_size} points in batches of 128: with it {_listed(with_it)};"
        f" without {_listed(without)}",
    )


def _sizes(drop_last: bool) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for _, labels in DataLoader(points("train"), batch_size=128, drop_last=drop_last):
        sizes[len(labels)] = sizes.get(len(labels), 0) + 1
    return sizes


def _listed(sizes: dict[int, int]) -> str:
    return " and ".join(f"{count} of {size}" for size, count in sizes.items())


def any_order(make: MakeNetwork = simple) -> LessonFinding:
    """Score a trained network over the test points in order, and in another order."""
    network = fresh(make)
    train(network, epochs=5)
    in_order, shuffled = (_correct(network, shuffle) for shuffle in (False, True))
    return found(
        in_order == shuffled,
        f"{in_order} of {RECIPE.test_size} right in order, {shuffled} shuffled, after 5 epochs",
    )


@torch.no_grad()
def _correct(network: nn.Module, shuffle: bool) -> int:
    order = torch.Generator().manual_seed(1)
    batches = DataLoader(points(), batch_size=128, shuffle=shuffle, generator=order)
    return sum(int(((network(p).squeeze(1) >= 0) == labels).sum()) for p, labels in batches)


Pin = Callable[[Tensor], Tensor]


def pinned_is_host_memory(
    device: str | None = None,
    pin: Pin = Tensor.pin_memory,
    checked: Callable[[], int] | None = None,
) -> LessonFinding:
    """Pin 8 MiB; see where they lie, whether they are page-locked, what the accelerator holds."""
    place = device or accelerator()
    if place is None:
        return untried("no accelerator: PyTorch pins nothing without one")
    checked = checked or (lambda: int(torch.accelerator.memory_allocated()))
    before = checked()
    try:
        batch = pin(torch.zeros(BIG_BATCH, 2))
    except RuntimeError as error:
        return untried(f"{place} does not pin: {str(error).splitlines()[0]}")
    grown = checked() - before
    locked = batch.is_pinned()
    return found(
        batch.device.type == "cpu" and locked and grown == 0,
        f"{batch.nbytes / 2**20:g} MiB {'pinned' if locked else 'not pinned'}, on"
        f" {batch.device.type}; the accelerator holds {grown:,} bytes more",
    )


def pinned_pays(device: str | None = None, pin: Pin = Tensor.pin_memory) -> LessonFinding:
    """Time copies of a batch of 128 points and of 8 MiB from pinned and from ordinary memory."""
    place = device or accelerator()
    if place is None:
        return untried("no accelerator: nothing is copied anywhere")
    try:
        small, large = (_copy_ratio(size, place, pin) for size in (128, BIG_BATCH))
    except RuntimeError as error:
        return untried(f"{place} does not pin: {str(error).splitlines()[0]}")
    return found(
        large.low > 1,
        f"from ordinary memory 8 MiB take {large}; a batch of 128 points, pinning"
        f" included in neither, {small}",
    )


def _copy_ratio(size: int, device: str, pin: Pin) -> SpeedRatio:
    plain = torch.zeros(size, 2)
    pinned, target = pin(plain), torch.device(device)

    def copy(batch: Tensor) -> None:
        batch.to(target)
        synchronize(target)

    return time_ratio(lambda: copy(plain), lambda: copy(pinned), pairs=PINNED_PAIRS)
