"""Training a case again in a process, to watch one of its epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from xorbench.measure.slots import ProcessSlot
from xorbench.observe.trace import EpochTrace, TraceStep
from xorbench.plan.case import Case, to_dict
from xorbench.plan.faults import FaultSpec
from xorbench.plan.honour import traced
from xorbench.plan.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Opened:
    """A training that stands open in a process before its first epoch."""

    handle: int
    inputs_sha256: str


def open_plain(
    slot: ProcessSlot, case: Case, recipe: Recipe, faults: Sequence[FaultSpec]
) -> Opened:
    """Open a training by its own engine, unwatched; raises `ProcessDied` or `OperationFailed`."""
    return _opened(slot, "open", case, recipe, faults)


def _opened(
    slot: ProcessSlot, op: str, case: Case, recipe: Recipe, faults: Sequence[FaultSpec]
) -> Opened:
    injected = [fault.to_dict() for fault in faults]
    answer = slot.ask(op, case=to_dict(case), recipe=to_dict(recipe), faults=injected)
    return Opened(answer["training"], answer["inputs_sha256"])


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of training again: the first epoch unlike the record, if any, and the last digest.

    `recorded` is the epoch asked for, None where the training diverged from its record before; its
    values are with the process, in which the training still stands open.
    """

    opened: Opened
    diverged: int | None
    digest: str
    recorded: EpochTrace | None


def open_traced(
    slot: ProcessSlot, case: Case, recipe: Recipe, faults: Sequence[FaultSpec]
) -> Opened:
    """Open a training whose epochs can be recorded; raises `ProcessDied` or `OperationFailed`."""
    return _opened(slot, "open traced", traced(case), recipe, faults)


def step(slot: ProcessSlot, opened: Opened) -> str:
    """Train one epoch unwatched; gives its digest."""
    digest: str = slot.ask("step", training=opened.handle)["digest"]
    return digest


def record(slot: ProcessSlot, opened: Opened, epoch: int, valued: range = range(0)) -> EpochTrace:
    """Train one epoch and record it, with the values of the steps in `valued`."""
    return _recorded(slot, "record", opened, epoch, valued=[valued.start, valued.stop])


def _recorded(slot: ProcessSlot, op: str, opened: Opened, epoch: int, **args: Any) -> EpochTrace:
    answer = slot.ask(op, training=opened.handle, **args)
    return msgspec.convert({"epoch": epoch, **answer}, EpochTrace)


def again(
    slot: ProcessSlot,
    case: Case,
    recipe: Recipe,
    faults: Sequence[FaultSpec],
    epoch_digests: Mapping[int, str],
    epoch: int,
) -> Replayed:
    """Train a case from its start and record one epoch, checking each digest against the record.

    It ends at the first epoch whose digest is not the recorded one.
    """
    opened = open_traced(slot, case, recipe, faults)
    for number in range(epoch):
        digest = step(slot, opened)
        if epoch_digests.get(number, digest) != digest:
            return Replayed(opened, number, digest, None)
    recorded = _recorded(slot, "record and keep", opened, epoch)
    diverged = None if epoch_digests.get(epoch, recorded.digest) == recorded.digest else epoch
    return Replayed(opened, diverged, recorded.digest, recorded)


def with_values(slot: ProcessSlot, replayed: Replayed, steps: range) -> EpochTrace:
    """These steps of the epoch that was recorded last, with the values of their tensors."""
    if replayed.recorded is None:
        raise ValueError("no epoch was recorded")
    bounds = [steps.start, steps.stop]
    answer = slot.ask("values", training=replayed.opened.handle, steps=bounds)
    return replace(replayed.recorded, steps=msgspec.convert(answer["steps"], list[TraceStep]))
