"""Retraining of a case in a process to record one of its epochs."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from xorbench.records.trace import EpochTrace
from xorbench.runtime.slots import ProcessSlot
from xorbench.xor.matrix.case import Case, to_dict
from xorbench.xor.matrix.faults import FaultSpec
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.matrix.support import traced

ALL_STEPS: Final = range(sys.maxsize)


@dataclass(frozen=True, slots=True)
class Retraining:
    """A training in a process; each call may raise `ProcessDied` or `OperationFailed`."""

    slot: ProcessSlot
    handle: int
    inputs_sha256: str

    def step(self) -> str:
        """Train one epoch untraced, and return its digest."""
        return str(self.slot.ask("step", training=self.handle)["digest"])

    def record(self, epoch: int, valued: range = range(0)) -> EpochTrace:
        """Train one epoch and record it, with the values of the steps in `valued`."""
        bounds = [valued.start, valued.stop]
        answer = self.slot.ask("record", training=self.handle, valued=bounds)
        return msgspec.convert({"epoch": epoch, **answer}, EpochTrace)


def opened(
    slot: ProcessSlot,
    case: Case,
    recipe: Recipe,
    faults: Sequence[FaultSpec],
    *,
    recorded: bool = False,
) -> Retraining:
    """Initialize a training with its own engine, or with one that can be recorded."""
    operation, case = ("open traced", traced(case)) if recorded else ("open", case)
    injected = [fault.to_dict() for fault in faults]
    answer = slot.ask(operation, case=to_dict(case), recipe=to_dict(recipe), faults=injected)
    return Retraining(slot, answer["training"], answer["inputs_sha256"])


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result of retraining up to an epoch.

    Attributes:
        epoch: the last trained epoch.
        digest: its digest.
        trace: its trace with all values; None if this or an earlier digest differs from the record.
    """

    epoch: int
    digest: str
    trace: EpochTrace | None


def replay(training: Retraining, epoch_digests: Mapping[int, str], epoch: int) -> Replayed:
    """Train up to an epoch and record it; stop at the first digest that differs from the record."""
    for number in range(epoch):
        digest = training.step()
        if epoch_digests.get(number, digest) != digest:
            return Replayed(number, digest, None)
    trace = training.record(epoch, ALL_STEPS)
    is_reproduced = epoch_digests.get(epoch, trace.digest) == trace.digest
    return Replayed(epoch, trace.digest, trace if is_reproduced else None)
