"""What a process answers where the right answer is known; that it gives none is a fact too."""

from collections.abc import Sequence
from typing import Final

import msgspec

from xorbench.records.schema.golden import Fact, Golden, GoldenInputs, ProbeRecord
from xorbench.runtime.process import OperationFailed, ProcessDied
from xorbench.runtime.slots import ProcessSlot
from xorbench.xor.matrix.case import device_type, to_dict
from xorbench.xor.matrix.recipe import Recipe


def require_working(slot: ProcessSlot, device: str, error: str) -> None:
    """Raise `ProcessDied` where the device no longer works in the slot's process after an error.

    Such an error stays: whatever is asked next of the device, it fails with the same message. The
    process is ended, so that no other case is blamed.
    """
    if device_type(device) == "cpu" or not slot.ask("probe", devices=[device])[device]:
        return
    if slot.process:
        slot.process.kill()
    raise ProcessDied(f"{device} did not work any more after {error}")


GOLDEN_OPERATION: Final = "the operation"


def unanswered(golden: Golden) -> str:
    """The error in place of what the device gives; empty where it gave something everywhere."""
    errors = (_error_in(golden.arithmetic), *map(unanswered_probe, golden.probes))
    return next(filter(None, errors), "")


def unanswered_probe(probe: ProbeRecord) -> str:
    """The error in place of a probe's result; empty where it was completed."""
    return _error_in(probe.wrong)


def _error_in(facts: Sequence[Fact]) -> str:
    return next((fact.actual for fact in facts if fact.what == GOLDEN_OPERATION), "")


def golden_of(slot: ProcessSlot, device: str) -> Golden:
    """What the device gives where the right answer is known; that it gives none is a fact too."""
    try:
        return msgspec.convert(slot.ask("universal", device=device), Golden)
    except OperationFailed as error:
        facts = [_no_answer(error)]
        return Golden(arithmetic=facts, universal=facts)


def probe_of(slot: ProcessSlot, device: str, probe: str) -> ProbeRecord:
    """What one exact probe finds on the device; that it does not come to its end is a fact too."""
    try:
        return msgspec.convert(slot.ask("exact probe", device=device, probe=probe), ProbeRecord)
    except OperationFailed as error:
        return ProbeRecord(probe=probe, checked=0, wrong=[_no_answer(error)])


def _no_answer(error: OperationFailed) -> Fact:
    return Fact(what=GOLDEN_OPERATION, expected="comes to its end", actual=str(error))


def golden_inputs_of(slot: ProcessSlot, recipe: Recipe, seed: int) -> GoldenInputs:
    """What the process draws for a seed; that it draws nothing is a fact too."""
    try:
        answer = slot.ask("golden inputs", recipe=to_dict(recipe), seed=seed)
    except OperationFailed as error:
        answer = {"seed": seed, "inputs_sha256": {}, "facts": [_no_answer(error)]}
    return msgspec.convert({"process": slot.process_id, **answer}, GoldenInputs)
