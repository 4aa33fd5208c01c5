"""Engines that a `DataLoader` feeds: one sample at a time, or a batch at a time."""

import sys
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xorbench.plan.case import Case
from xorbench.workload.engines.spec import EpochFunction, TrainingSpec, loss_function, tensors_of
from xorbench.workload.xor import Batch


def loader(spec: TrainingSpec) -> EpochFunction:
    """The reference: the `DataLoader` loop of the tutorials; gives the last step's loss."""
    return _looped(spec, make_loader(spec, spec.data))


def fetch(spec: TrainingSpec) -> EpochFunction:
    """The same loop, but each batch is fetched by one index of the tensors, and not collated."""
    fetched = _Fetched(tensors_of(spec.data, "fetch"))
    return _looped(spec, make_loader(spec, fetched, collate_fn=_as_it_is))


class _Fetched(Dataset[Batch]):
    """Tensors that a `DataLoader` asks for whole batches."""

    def __init__(self, tensors: tuple[Tensor, ...]) -> None:
        self._points, self._labels = tensors

    def __len__(self) -> int:
        return len(self._points)

    def __getitems__(self, indices: list[int]) -> Batch:
        rows = torch.tensor(indices, device=self._points.device)
        return self._points.index_select(0, rows), self._labels.index_select(0, rows)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _looped(spec: TrainingSpec, batches: DataLoader[Batch]) -> EpochFunction:
    device, non_blocking = spec.device, spec.case.non_blocking
    loss_of, optimizer = loss_function(spec), spec.optimizer

    def epoch() -> Tensor:
        loss = torch.empty(())
        for points, labels in spec.tamper(batches):
            points, labels = (  # noqa: PLW2901 - the tutorials' own way to write it
                points.to(device, non_blocking=non_blocking),
                labels.to(device, non_blocking=non_blocking),
            )
            loss = loss_of(points, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.detach()

    return epoch


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
