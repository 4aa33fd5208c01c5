"""`diff`: where two trainings diverge, found by training them again."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from xorbench.commands.interrupt import terminable
from xorbench.commands.processes import other_machine, running, starter
from xorbench.commands.training_ref import TrainingRef, sides
from xorbench.errors import CHECK_FAILED, INCONCLUSIVE, PASSED, BadOption
from xorbench.judge.divergence import (
    Divergence,
    TracePlace,
    element,
    first_epoch,
    first_place,
    growth,
)
from xorbench.judge.first_difference import FirstDifference
from xorbench.measure import retrain
from xorbench.measure.process import OperationFailed, ProcessDied
from xorbench.measure.retrain import Replayed
from xorbench.measure.slots import ProcessSlot
from xorbench.observe.trace import CaseTrace, EpochTrace
from xorbench.plan import kernels

FOLLOWED: Final = 6  # steps from the first that differs whose values are compared

BothSides = tuple[TrainingRef, TrainingRef]


@dataclass(frozen=True, slots=True)
class DiffRequest:
    """Two sides as the command line names them."""

    a: str
    b: str
    root: Path = Path("results")
    timeout_s: float = 120.0


def diff(request: DiffRequest) -> tuple[Divergence, int]:
    """Find where the two diverge, and the exit code. Raises `BadOption` where there are no two."""
    a, b, notes = _paired(request)
    found = _on_record(a, b, notes)
    if a.trace and b.trace:
        found = _between(a.trace, b.trace, (a, b), found)
    elif found.epoch is not None:
        found = _trained_again(request, a, b, found, found.epoch)
    code = CHECK_FAILED if found.diverged else PASSED if found.epochs else INCONCLUSIVE
    return found, code


def _paired(request: DiffRequest) -> tuple[TrainingRef, TrainingRef, list[str]]:
    """One training of each side, and what else was there: of two runs the first that differs."""
    ones, others = sides(request.root, "A", request.a), sides(request.root, "B", request.b)
    if len(ones) == len(others) == 1:
        return ones[0], others[0], []
    by_variant = {side.variant: side for side in others}
    pairs = [(one, by_variant[one.variant]) for one in ones if one.variant in by_variant]
    if not pairs:
        raise BadOption(f"B: {request.b!r} has no training in common with {request.a!r}")
    diverged = [pair for pair in pairs if _differ(*pair)]
    said = f"{len(diverged)} of {len(pairs)} common trainings differ"
    names = ", ".join(one.variant for one, _ in diverged[:4])
    note = f"{said}: {names}{', …' if len(diverged) > 4 else ''}" if diverged else said
    return *(diverged or pairs)[0], [note]


def _differ(a: TrainingRef, b: TrainingRef) -> bool:
    return (
        a.inputs_sha256 != b.inputs_sha256
        or first_epoch(a.epoch_digests, b.epoch_digests) is not None
    )


def _on_record(a: TrainingRef, b: TrainingRef, notes: list[str]) -> Divergence:
    """What the records alone say."""
    inputs = (a.inputs_sha256, b.inputs_sha256)
    common = len(a.epoch_digests.keys() & b.epoch_digests.keys())
    return Divergence(
        a.label, b.label, notes, inputs, common, first_epoch(a.epoch_digests, b.epoch_digests)
    )


def _between(a: CaseTrace, b: CaseTrace, both: BothSides, found: Divergence) -> Divergence:
    """Add step and tensor from the traces themselves: they show what an epoch's end no longer does.

    Damage to a gradient or an activation may round away before it reaches a weight.
    """
    for epoch in sorted(a.epochs.keys() & b.epochs.keys()):
        one, other = a.epochs[epoch], b.epochs[epoch]
        first = first_place(one, other)
        if first is not None:
            return _with_values(both, replace(found, place=first[0]), first[1], one, other)
    return found


def _trained_again(
    request: DiffRequest, a: TrainingRef, b: TrainingRef, found: Divergence, epoch: int
) -> Divergence:
    """Add step and tensor from training both sides again."""
    with terminable(), tempfile.TemporaryDirectory() as folder:
        slots = [a.slot("a"), b.slot("b")]
        try:
            with running(slots, starter(lambda name: Path(folder) / name, request.timeout_s)):
                return _replayed(slots, (a, b), found, epoch)
        except (ProcessDied, OperationFailed) as error:
            return replace(found, replays=f"a side cannot be trained again here: {error}")


def _replayed(
    slots: list[ProcessSlot], both: BothSides, found: Divergence, epoch: int
) -> Divergence:
    """Train both again up to the epoch; where both reproduce their records, compare its steps."""
    for letter, slot, side in zip("AB", slots, both, strict=True):
        strange = other_machine(side.machine, slot.machine)
        if strange:
            commands = trace_commands(both, epoch, None)
            told = f"not done: {letter} was {strange}{_kernel_hint(slot, side)}"
            return replace(found, replays=told, commands=commands)
    with ThreadPoolExecutor(2) as pool:
        again = list(pool.map(_again, slots, both, (epoch, epoch)))
    for letter, slot, side, one in zip("AB", slots, both, again, strict=True):
        if one.recorded is None or one.diverged is not None:
            return replace(found, transient=_transient(letter, slot, side, one))
    found = replace(found, replays=f"both sides repeat their epoch digests up to epoch {epoch}")
    first = first_place(*_recorded(again))
    if first is None or first[0].tensor is None:
        return replace(found, place=None if first is None else first[0])
    steps = range(first[0].step, first[0].step + FOLLOWED)
    a, b = (retrain.with_values(s, one, steps) for s, one in zip(slots, again, strict=True))
    valued = first_place(a, b)
    assert valued is not None, "the steps are those that were compared"
    return _with_values(both, replace(found, place=first[0]), valued[1], a, b)


def _kernel_hint(slot: ProcessSlot, side: TrainingRef) -> str:
    facts = [fact for fact in kernels.FACTS if side.machine.get(fact) != slot.machine.get(fact)]
    said = kernels.hint(facts)
    return f"; {said}" if said else ""


def _recorded(again: list[Replayed]) -> tuple[EpochTrace, EpochTrace]:
    a, b = (one.recorded for one in again if one.recorded)
    return a, b


def _again(slot: ProcessSlot, side: TrainingRef, epoch: int) -> Replayed:
    return retrain.again(slot, side.case, side.recipe, side.injected(), side.epoch_digests, epoch)


def _transient(letter: str, slot: ProcessSlot, side: TrainingRef, first: Replayed) -> str:
    """Say that a side does not reproduce its record, and whether its replays at least agree.

    Other kernels give other bits from the first epoch on, and the same ones each time.
    """
    epoch = first.diverged or 0
    second = _again(slot, side, epoch)
    agree = second.diverged == epoch and second.digest == first.digest
    replays = "two replays agree with each other" if agree else "no two replays agree"
    elsewhere = f"; recorded on another processor? {kernels.HINT}" if agree and not epoch else ""
    return (
        f"transient on {letter} in epoch {epoch}: the record has {side.epoch_digests[epoch][:16]},"
        f" a replay {first.digest[:16]}; {replays}{elsewhere}"
    )


def _with_values(
    both: BothSides, found: Divergence, first: FirstDifference, a: EpochTrace, b: EpochTrace
) -> Divergence:
    """Add the element and the growth, or the commands whose traces would hold them."""
    place = found.place
    if place is None or place.tensor is None:
        return found
    difference = element(first)
    if difference is None:
        return replace(found, commands=trace_commands(both, place.epoch, place))
    return replace(found, difference=difference, growth=growth(a, b))


def trace_commands(both: BothSides, epoch: int, place: TracePlace | None) -> list[str]:
    """The commands that write down both sides, with the values of the steps from a place on."""
    return [
        f"python -m xorbench trace {side.name} --epoch {epoch}{_valued(side, place)}"
        f" -o {letter}.trace"
        for letter, side in zip("ab", both, strict=True)
    ]


def _valued(side: TrainingRef, place: TracePlace | None) -> str:
    if place is None or place.step >= side.steps:
        return ""
    return f" --dump-steps {place.step}-{min(place.step + FOLLOWED, side.steps) - 1}"
