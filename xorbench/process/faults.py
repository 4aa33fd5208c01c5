"""Faults that change the whole process, one function each; described in `xor.matrix.faults`."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

import torch

from xorbench.machine.universal import torch_backend
from xorbench.xor.matrix.faults import FAULTS, FaultSpec
from xorbench.xor.training import engines
from xorbench.xor.training.calibration import CalibrationBatch, CalibrationWorkload
from xorbench.xor.training.engines import EpochFunction, TrainingSpec
from xorbench.xor.training.faults import flip_bit, set_bit, stretched


def inject_in_process(faults: Sequence[FaultSpec]) -> None:
    """Inject each of the faults."""
    for fault in faults:
        FAULTS[fault.name].do(fault)


def flush_subnormals(_fault: FaultSpec) -> None:
    if not torch.set_flush_denormal(True):
        raise RuntimeError("this processor cannot flush subnormals")


def scaled_tanh(fault: FaultSpec) -> None:
    original, scale = torch.tanh, 1 + fault.number("ppb") / 1e9
    setattr(torch, "tanh", lambda values: original(values) * scale)  # noqa: B010


def other_order(_fault: FaultSpec) -> None:
    original = torch.randperm

    def randperm(count: int, **options: Any) -> torch.Tensor:
        order = original(count, **options)
        order[:2] = order[:2].flip(0)
        return order

    setattr(torch, "randperm", randperm)  # noqa: B010


def other_tanh(_fault: FaultSpec) -> None:
    setattr(torch_backend, "tanh", torch.tanh)  # noqa: B010 - its type is narrower


def slow(fault: FaultSpec) -> None:
    percent = fault.number("percent")

    def slowed(engine: str, spec: TrainingSpec) -> EpochFunction:
        epoch = opened(engine, spec)
        return lambda: stretched(epoch, percent)

    def train(calibration: CalibrationWorkload, batches: Iterable[CalibrationBatch]) -> None:
        stretched(lambda: trained(calibration, batches), percent)

    opened, trained = engines.opened, CalibrationWorkload._train
    setattr(engines, "opened", slowed)  # noqa: B010
    setattr(CalibrationWorkload, "_train", train)  # noqa: B010


def flip_product(fault: FaultSpec) -> None:
    _damage_products(fault, max(1, fault.number("step")), flip_bit)


def wrong_product(fault: FaultSpec) -> None:
    _damage_products(fault, 1, set_bit)


def _damage_products(
    fault: FaultSpec, period: int, damage: Callable[[torch.Tensor, int, int], None]
) -> None:
    """Damage one bit of each `period`-th result of `torch.mm` and `torch.matmul`."""
    calls = count(1)

    def damaged(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def multiply(*args: Any, **options: Any) -> torch.Tensor:
            product = original(*args, **options)
            if next(calls) % period == 0:
                damage(product, fault.number("element"), fault.number("bit"))
            return product

        return multiply

    for name in ("mm", "matmul"):
        setattr(torch, name, damaged(getattr(torch, name)))
