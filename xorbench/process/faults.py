"""Faults that change the whole process: a function each, and its row in `PROCESS_FAULTS`."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, Final

import torch

from xorbench.plan.faults import FaultSpec
from xorbench.universal import torch_backend
from xorbench.workload.calibration import CalibrationBatch, CalibrationWorkload
from xorbench.workload.engines import ENGINES, EpochFunction, TrainingSpec
from xorbench.workload.faults import flip_bit, set_bit, stretched


def inject_in_process(faults: Sequence[FaultSpec]) -> None:
    """Inject each of the faults."""
    for fault in faults:
        PROCESS_FAULTS[fault.name](fault)


def _flush_subnormals(_fault: FaultSpec) -> None:
    if not torch.set_flush_denormal(True):
        raise RuntimeError("this processor cannot flush subnormals")


def _scaled_tanh(fault: FaultSpec) -> None:
    sound, scale = torch.tanh, 1 + fault.number("ppb") / 1e9
    setattr(torch, "tanh", lambda values: sound(values) * scale)  # noqa: B010


def _other_order(_fault: FaultSpec) -> None:
    sound = torch.randperm

    def randperm(count: int, **options: Any) -> torch.Tensor:
        order = sound(count, **options)
        order[:2] = order[:2].flip(0)
        return order

    setattr(torch, "randperm", randperm)  # noqa: B010


def _other_tanh(_fault: FaultSpec) -> None:
    setattr(torch_backend, "tanh", torch.tanh)  # noqa: B010 - its type is narrower


def _slow(fault: FaultSpec) -> None:
    percent = fault.number("percent")

    def slowed(
        engine: Callable[[TrainingSpec], EpochFunction],
    ) -> Callable[[TrainingSpec], EpochFunction]:
        def opened(spec: TrainingSpec) -> EpochFunction:
            epoch = engine(spec)
            return lambda: stretched(epoch, percent)

        return opened

    def train(calibration: CalibrationWorkload, batches: Iterable[CalibrationBatch]) -> None:
        stretched(lambda: whole(calibration, batches), percent)

    whole = CalibrationWorkload._train
    setattr(CalibrationWorkload, "_train", train)  # noqa: B010
    ENGINES.update({name: slowed(engine) for name, engine in ENGINES.items()})


def _flip_product(fault: FaultSpec) -> None:
    _damage_products(fault, max(1, fault.number("step")), flip_bit)


def _wrong_product(fault: FaultSpec) -> None:
    _damage_products(fault, 1, set_bit)


def _damage_products(
    fault: FaultSpec, every: int, damage: Callable[[torch.Tensor, int, int], None]
) -> None:
    """Damage one bit of every so many results of `torch.mm` and `torch.matmul`."""
    calls = count(1)

    def damaged(sound: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def multiply(*args: Any, **options: Any) -> torch.Tensor:
            found = sound(*args, **options)
            if next(calls) % every == 0:
                damage(found, fault.number("element"), fault.number("bit"))
            return found

        return multiply

    for name in ("mm", "matmul"):
        setattr(torch, name, damaged(getattr(torch, name)))


PROCESS_FAULTS: Final[dict[str, Callable[[FaultSpec], None]]] = {
    "flip-product": _flip_product,
    "flush-subnormals": _flush_subnormals,
    "other-order": _other_order,
    "other-tanh": _other_tanh,
    "scaled-tanh": _scaled_tanh,
    "slow": _slow,
    "wrong-product": _wrong_product,
}
