"""Results of a process that have a golden value; a failed operation is recorded as a mismatch."""

from collections.abc import Sequence
from typing import Final

import msgspec

from xorbench.records.schema.golden import Fact, Golden, GoldenInputs, ProbeRecord
from xorbench.runtime.process import OperationFailed, ProcessDied
from xorbench.runtime.slots import ProcessSlot
from xorbench.xor.matrix.case import device_type, to_dict
from xorbench.xor.matrix.recipe import Recipe


def require_working(slot: ProcessSlot, device: str, error: str) -> None:
    """Raise `ProcessDied` if the device stopped working in the slot's process after an error.

    Every later operation on such a device fails with the same message, so the process is killed
    before the error is attributed to a different case.
    """
    if device_type(device) == "cpu" or not slot.ask("probe", devices=[device])[device]:
        return
    if slot.process:
        slot.process.kill()
    raise ProcessDied(f"{device} stopped working after {error}")


GOLDEN_OPERATION: Final = "the operation"


def unanswered(golden: Golden) -> str:
    """The error of the first failed operation; empty if all operations finished."""
    errors = (_error_in(golden.arithmetic), *map(unanswered_probe, golden.probes))
    return next(filter(None, errors), "")


def unanswered_probe(probe: ProbeRecord) -> str:
    """The error of a failed probe; empty if it finished."""
    return _error_in(probe.wrong)


def _error_in(values: Sequence[Fact]) -> str:
    return next((value.actual for value in values if value.what == GOLDEN_OPERATION), "")


def golden_of(slot: ProcessSlot, device: str) -> Golden:
    """The device's results for all golden values; a failed operation is a mismatch."""
    try:
        return msgspec.convert(slot.ask("universal", device=device), Golden)
    except OperationFailed as error:
        values = [_no_answer(error)]
        return Golden(arithmetic=values, universal=values)


def probe_of(slot: ProcessSlot, device: str, probe: str) -> ProbeRecord:
    """The result of an exact probe on the device; a failed operation is a mismatch."""
    try:
        return msgspec.convert(slot.ask("exact probe", device=device, probe=probe), ProbeRecord)
    except OperationFailed as error:
        return ProbeRecord(probe=probe, checked=0, wrong=[_no_answer(error)])


def _no_answer(error: OperationFailed) -> Fact:
    return Fact(what=GOLDEN_OPERATION, expected="finishes", actual=str(error))


def golden_inputs_of(slot: ProcessSlot, recipe: Recipe, seed: int) -> GoldenInputs:
    """The process's random inputs for a seed; a failed operation is a mismatch."""
    try:
        answer = slot.ask("golden inputs", recipe=to_dict(recipe), seed=seed)
    except OperationFailed as error:
        answer = {"seed": seed, "inputs_sha256": {}, "details": [_no_answer(error)]}
    return msgspec.convert({"process": slot.process_id, **answer}, GoldenInputs)
