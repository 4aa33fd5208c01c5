"""Faults that change the whole process: a function each, and its row in `PROCESS_FAULTS`."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import torch

from xorbench.plan.faults import FaultSpec
from xorbench.universal import torch_backend
from xorbench.workload.calibration import CalibrationBatch, CalibrationWorkload
from xorbench.workload.engines import ENGINES, EpochFunction, TrainingSpec
from xorbench.workload.faults import stretched


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


PROCESS_FAULTS: Final[dict[str, Callable[[FaultSpec], None]]] = {
    "flush-subnormals": _flush_subnormals,
    "other-order": _other_order,
    "other-tanh": _other_tanh,
    "scaled-tanh": _scaled_tanh,
    "slow": _slow,
}
