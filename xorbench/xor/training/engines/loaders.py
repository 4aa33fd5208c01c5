"""Engines with PyTorch's own step, with or without a `DataLoader`."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xorbench.xor.matrix.case import Case
from xorbench.xor.training.engines.spec import (
    Batches,
    EpochFunction,
    TrainingSpec,
    epochs_of,
    loss_function,
    tensors_of,
    untouched,
)
from xorbench.xor.training.problem import Batch


def loader(spec: TrainingSpec) -> EpochFunction:
    """The reference engine: the `DataLoader` loop of the tutorials."""
    return epochs_of(spec, make_loader(spec, spec.data), _step_on_device(spec))


def fetch(spec: TrainingSpec) -> EpochFunction:
    """The same loop with batches fetched by one indexing operation, without collation."""
    fetched = _Fetched(tensors_of(spec.data, "fetch"))
    return epochs_of(spec, make_loader(spec, fetched, collate_fn=untouched), _step_on_device(spec))


def tensor(spec: TrainingSpec) -> EpochFunction:
    """The same step on views of a whole epoch that is gathered at once."""
    return epochs_of(spec, Batches(spec, "tensor"), _step(spec))


class _Fetched(Dataset[Batch]):
    """Tensors as a data set that returns whole batches."""

    def __init__(self, tensors: tuple[Tensor, ...]) -> None:
        self._points, self._labels = tensors

    def __len__(self) -> int:
        return len(self._points)

    def __getitems__(self, indices: list[int]) -> Batch:
        rows = torch.tensor(indices, device=self._points.device)
        return self._points.index_select(0, rows), self._labels.index_select(0, rows)


def _step(spec: TrainingSpec) -> Callable[[Tensor, Tensor], Tensor]:
    """The step of the tutorials for a batch on the device."""
    loss_of, optimizer = loss_function(spec), spec.optimizer

    def step(points: Tensor, labels: Tensor) -> Tensor:
        loss = loss_of(points, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def _step_on_device(spec: TrainingSpec) -> Callable[[Tensor, Tensor], Tensor]:
    step, device, non_blocking = _step(spec), spec.device, spec.case.non_blocking
    return lambda points, labels: step(
        points.to(device, non_blocking=non_blocking), labels.to(device, non_blocking=non_blocking)
    )


def make_loader(spec: TrainingSpec, data: Dataset[Batch], **options: Any) -> DataLoader[Batch]:
    """The training `DataLoader` of a case."""
    case = spec.case
    return DataLoader(
        data,
        batch_size=case.batch_size,
        shuffle=True,
        drop_last=case.drop_last,
        pin_memory=case.pin_memory,
        num_workers=case.num_workers,
        persistent_workers=case.persistent_workers and case.num_workers > 0,
        multiprocessing_context=start_method(case),
        prefetch_factor=case.prefetch_factor if case.num_workers else None,
        in_order=case.in_order,
        generator=spec.shuffle,
        **options,
    )


def start_method(case: Case) -> str | None:
    """The start method of a case's loader workers; None without workers or for PyTorch's default.

    The default is fork on Linux, which takes milliseconds; on a different system it is unsafe.
    """
    if not case.num_workers:
        return None
    if case.multiprocessing_context != "auto":
        return case.multiprocessing_context
    return "fork" if sys.platform == "linux" else None
