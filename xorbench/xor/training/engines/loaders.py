"""Engines whose step is PyTorch's own: fed by a `DataLoader`, or without one."""

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
    """The reference: the `DataLoader` loop of the tutorials; returns the last step's loss."""
    return epochs_of(spec, make_loader(spec, spec.data), _step_on_device(spec))


def fetch(spec: TrainingSpec) -> EpochFunction:
    """The same loop, but each batch is fetched by one index of the tensors, and not collated."""
    fetched = _Fetched(tensors_of(spec.data, "fetch"))
    return epochs_of(spec, make_loader(spec, fetched, collate_fn=untouched), _step_on_device(spec))


def tensor(spec: TrainingSpec) -> EpochFunction:
    """The same step on views of an epoch that is gathered at once."""
    return epochs_of(spec, Batches(spec, "tensor"), _step(spec))


class _Fetched(Dataset[Batch]):
    """Tensors that a `DataLoader` asks for whole batches."""

    def __init__(self, tensors: tuple[Tensor, ...]) -> None:
        self._points, self._labels = tensors

    def __len__(self) -> int:
        return len(self._points)

    def __getitems__(self, indices: list[int]) -> Batch:
        rows = torch.tensor(indices, device=self._points.device)
        return self._points.index_select(0, rows), self._labels.index_select(0, rows)


def _step(spec: TrainingSpec) -> Callable[[Tensor, Tensor], Tensor]:
    """The step of the tutorials, on a batch that is on the device."""
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
    """How the loader workers of a case start; None where there are none, or PyTorch chooses.

    By default they are forked on Linux, which takes milliseconds; elsewhere forking is not safe.
    """
    if not case.num_workers:
        return None
    if case.multiprocessing_context != "auto":
        return case.multiprocessing_context
    return "fork" if sys.platform == "linux" else None
