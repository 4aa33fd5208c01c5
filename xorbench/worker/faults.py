"""Faults that change the whole process: a function each, and its row in `PROCESS_FAULTS`."""

from collections.abc import Callable, Sequence
from typing import Final

import torch

from xorbench.universal import torch_backend


def plant_in_process(names: Sequence[str]) -> None:
    """Plant each of the faults."""
    for name in names:
        PROCESS_FAULTS[name]()


def _flush_subnormals() -> None:
    if not torch.set_flush_denormal(True):
        raise RuntimeError("this processor cannot flush subnormals")


def _other_tanh() -> None:
    setattr(torch_backend, "tanh", torch.tanh)  # noqa: B010 - its type is narrower


PROCESS_FAULTS: Final[dict[str, Callable[[], None]]] = {
    "flush-subnormals": _flush_subnormals,
    "other-tanh": _other_tanh,
}
