"""`diff`: where two trainings part, found by training them again."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from xorbench.errors import CHECK_FAILED, INCONCLUSIVE, PASSED, BadOption
from xorbench.judge.divergence import Divergence, Place, compare, first_epoch, first_place, growth
from xorbench.measure import replay
from xorbench.measure.pool import OperationFailed, WorkerDied
from xorbench.measure.replay import Replayed
from xorbench.measure.runner import Slot
from xorbench.observe.trace import Trace, TraceEpoch
from xorbench.plan import kernels
from xorbench.verbs.sides import Side, sides
from xorbench.verbs.workers import running, starter, terminable

FOLLOWED: Final = 6  # steps from the first that differs whose values are compared

Pair = tuple[Side, Side]


@dataclass(frozen=True, slots=True)
class Request:
    """Two sides as the command line names them."""

    a: str
    b: str
    root: Path = Path("results")
    timeout_s: float = 120.0


def diff(request: Request) -> tuple[Divergence, int]:
    """Find where the two part, and the exit code. Raises `BadOption` where there are no two."""
    a, b, notes = _paired(request)
    found = _on_record(a, b, notes)
    if a.trace and b.trace:
        found = _between(a.trace, b.trace, (a, b), found)
    elif found.epoch is not None:
        found = _trained_again(request, a, b, found, found.epoch)
    code = CHECK_FAILED if found.parted else PASSED if found.epochs else INCONCLUSIVE
    return found, code


def _paired(request: Request) -> tuple[Side, Side, list[str]]:
    """One training of each side, and what else was there: of two runs the first that differs."""
    ones, others = sides(request.root, "A", request.a), sides(request.root, "B", request.b)
    if len(ones) == len(others) == 1:
        return ones[0], others[0], []
    by_subject = {side.subject: side for side in others}
    pairs = [(one, by_subject[one.subject]) for one in ones if one.subject in by_subject]
    if not pairs:
        raise BadOption(f"B: {request.b!r} has no training in common with {request.a!r}")
    parted = [pair for pair in pairs if _differ(*pair)]
    said = f"{len(parted)} of {len(pairs)} common trainings differ"
    names = ", ".join(one.subject for one, _ in parted[:4])
    note = f"{said}: {names}{', …' if len(parted) > 4 else ''}" if parted else said
    return *(parted or pairs)[0], [note]


def _differ(a: Side, b: Side) -> bool:
    return a.inputs_sha256 != b.inputs_sha256 or first_epoch(a.tape, b.tape) is not None


def _on_record(a: Side, b: Side, notes: list[str]) -> Divergence:
    """What the records alone say."""
    inputs = (a.inputs_sha256, b.inputs_sha256)
    common = len(a.tape.keys() & b.tape.keys())
    return Divergence(a.label, b.label, notes, inputs, common, first_epoch(a.tape, b.tape))


def _between(a: Trace, b: Trace, both: Pair, found: Divergence) -> Divergence:
    """Add step and tensor from the traces themselves: they show what an epoch's end no longer does.

    Damage to a gradient or an activation may round away before it reaches a weight.
    """
    for epoch in sorted(a.epochs.keys() & b.epochs.keys()):
        one, other = a.epochs[epoch], b.epochs[epoch]
        place = first_place(one, other, a.head.tensors)
        if place is not None:
            return _with_values(both, replace(found, place=place), one, other)
    return found


def _trained_again(request: Request, a: Side, b: Side, found: Divergence, epoch: int) -> Divergence:
    """Add step and tensor from training both sides again."""
    with tempfile.TemporaryDirectory() as folder, terminable():
        slots = [a.slot("a"), b.slot("b")]
        try:
            with running(slots, starter(lambda name: Path(folder) / name, request.timeout_s)):
                return _replayed(slots, (a, b), found, epoch)
        except (WorkerDied, OperationFailed) as error:
            return replace(found, replays=f"a side cannot be trained again here: {error}")


def _replayed(slots: list[Slot], both: Pair, found: Divergence, epoch: int) -> Divergence:
    """Train both again up to the epoch; where they repeat themselves, look into it."""
    for letter, slot, side in zip("AB", slots, both, strict=True):
        strange = replay.other_machine(side.machine, slot.machine)
        if strange:
            commands = _commands(both, epoch, None)
            told = f"not done: {letter} was {strange}{_kernel_hint(slot, side)}"
            return replace(found, replays=told, commands=commands)
    again = [_again(slot, side, epoch) for slot, side in zip(slots, both, strict=True)]
    for letter, slot, side, one in zip("AB", slots, both, again, strict=True):
        if one.recorded is None or one.parted is not None:
            return replace(found, transient=_transient(letter, slot, side, one))
    found = replace(found, replays=f"both sides repeat their tapes up to epoch {epoch}")
    place = first_place(*_recorded(again), again[0].tensors)
    if place is None or place.tensor is None:
        return replace(found, place=place)
    valued = range(place.step, place.step + FOLLOWED)
    again = [_again(slot, side, epoch, valued) for slot, side in zip(slots, both, strict=True)]
    return _with_values(both, replace(found, place=place), *_recorded(again))


def _kernel_hint(slot: Slot, side: Side) -> str:
    facts = [fact for fact in kernels.FACTS if side.machine.get(fact) != slot.machine.get(fact)]
    said = kernels.hint(facts)
    return f"; {said}" if said else ""


def _recorded(again: list[Replayed]) -> tuple[TraceEpoch, TraceEpoch]:
    a, b = (one.recorded for one in again if one.recorded)
    return a, b


def _again(slot: Slot, side: Side, epoch: int, valued: range = range(0)) -> Replayed:
    return replay.again(slot, side.case, side.recipe, side.planted(), side.tape, epoch, valued)


def _transient(letter: str, slot: Slot, side: Side, first: Replayed) -> str:
    """Say that a side does not repeat itself, and whether its replays at least agree.

    Other kernels give other bits from the first epoch on, and the same ones each time.
    """
    epoch = first.parted or 0
    second = _again(slot, side, epoch)
    agree = second.parted == epoch and second.digest == first.digest
    replays = "two replays agree with each other" if agree else "no two replays agree"
    elsewhere = f"; recorded on another processor? {kernels.HINT}" if agree and not epoch else ""
    return (
        f"transient on {letter} in epoch {epoch}: the record has {side.tape[epoch][:16]},"
        f" a replay {first.digest[:16]}; {replays}{elsewhere}"
    )


def _with_values(both: Pair, found: Divergence, a: TraceEpoch, b: TraceEpoch) -> Divergence:
    """Add the element and the growth, or the commands whose traces would hold them."""
    place = found.place
    if place is None or place.tensor is None:
        return found
    one, other = a.values.get(str(place.step)), b.values.get(str(place.step))
    if one is None or other is None:
        return replace(found, commands=_commands(both, place.epoch, place))
    difference = compare(one[place.tensor], other[place.tensor])
    return replace(found, difference=difference, growth=growth(a.values, b.values))


def _commands(both: Pair, epoch: int, place: Place | None) -> list[str]:
    values = f" --values {place.step}-{place.step + FOLLOWED - 1}" if place else ""
    return [
        f"python -m xorbench trace {side.name} --at {epoch}{values} -o {letter}.trace"
        for letter, side in zip("ab", both, strict=True)
    ]
