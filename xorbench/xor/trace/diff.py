"""`diff`: locate where two trainings diverge by retraining them."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

from xorbench.errors import CHECK_FAILED, INCONCLUSIVE, PASSED, BadOption
from xorbench.machine import kernels
from xorbench.records.trace import EpochTrace
from xorbench.runtime.interrupt import terminable
from xorbench.runtime.process import OperationFailed, ProcessDied
from xorbench.runtime.slots import ProcessSlot
from xorbench.runtime.start import machine_difference, running, starter
from xorbench.xor.trace import retrain
from xorbench.xor.trace.divergence import (
    Divergence,
    TracePlace,
    element,
    first_epoch,
    first_place,
    growth,
)
from xorbench.xor.trace.retrain import ALL_STEPS, Replayed
from xorbench.xor.trace.training_ref import TrainingRef, sides

COMPARED_STEPS: Final = 6  # steps with compared values, from the first difference


BothSides = tuple[TrainingRef, TrainingRef]


def diff(text_a: str, text_b: str, root: Path, timeout_s: float = 120.0) -> tuple[Divergence, int]:
    """The divergence of two trainings, and the exit code. Raises `BadOption` for a missing one."""
    pair, notes = _paired(text_a, text_b, root)
    a, b = pair
    divergence = Divergence(
        a=a.label,
        b=b.label,
        notes=notes,
        inputs=(a.inputs_sha256, b.inputs_sha256),
        epochs=len(a.epoch_digests.keys() & b.epoch_digests.keys()),
        epoch=first_epoch(a.epoch_digests, b.epoch_digests),
    )
    if a.trace and b.trace:
        divergence = _between(divergence, pair, a.trace.epochs, b.trace.epochs)
    elif divergence.epoch is not None:
        divergence = _retrained(divergence, pair, timeout_s)
    passed = PASSED if divergence.epochs else INCONCLUSIVE
    return divergence, CHECK_FAILED if divergence.diverged else passed


def _paired(text_a: str, text_b: str, root: Path) -> tuple[BothSides, list[str]]:
    """One training per side, and a note; for two runs, the first pair that differs."""
    sides_a, sides_b = sides(root, "A", text_a), sides(root, "B", text_b)
    if len(sides_a) == len(sides_b) == 1:
        return (sides_a[0], sides_b[0]), []
    by_variant = {side.variant: side for side in sides_b}
    pairs = [(side, by_variant[side.variant]) for side in sides_a if side.variant in by_variant]
    if not pairs:
        raise BadOption(f"B: {text_b!r} has no training in common with {text_a!r}")
    differing = [pair for pair in pairs if _differ(*pair)]
    names = ", ".join(a.variant for a, _ in differing[:4]) + ", …" * (len(differing) > 4)
    note = f"{len(differing)} of {len(pairs)} common trainings differ"
    return (differing or pairs)[0], [f"{note}: {names}" if differing else note]


def _differ(a: TrainingRef, b: TrainingRef) -> bool:
    return (
        a.inputs_sha256 != b.inputs_sha256
        or first_epoch(a.epoch_digests, b.epoch_digests) is not None
    )


def _between(
    divergence: Divergence, pair: BothSides, a: dict[int, EpochTrace], b: dict[int, EpochTrace]
) -> Divergence:
    """Add step and tensor from traces, which also show differences that reach no epoch digest.

    Damage to a gradient or an activation may disappear by rounding before it reaches a weight.
    """
    for epoch in sorted(a.keys() & b.keys()):
        located = _located(divergence, pair, a[epoch], b[epoch])
        if located.place is not None:
            return located
    return divergence


def _located(
    divergence: Divergence,
    pair: BothSides,
    a: EpochTrace,
    b: EpochTrace,
    compared_steps: int | None = None,
) -> Divergence:
    """Add the first difference in an epoch, its element, and the growth of the difference.

    Without recorded values, add commands that record them.
    """
    first = first_place(a, b)
    if first is None:
        return divergence
    place, events = first
    divergence = replace(divergence, place=place)
    if place.tensor is None:
        return divergence
    difference = element(events)
    if difference is None:
        return replace(divergence, commands=trace_commands(pair, place.epoch, place))
    steps = ALL_STEPS if compared_steps is None else range(place.step, place.step + compared_steps)
    return replace(divergence, difference=difference, growth=growth(a, b, steps))


def _retrained(divergence: Divergence, pair: BothSides, timeout_s: float) -> Divergence:
    """Add step and tensor by retraining both sides."""
    with terminable(), tempfile.TemporaryDirectory() as folder:
        slots = [side.slot(name) for side, name in zip(pair, "ab", strict=True)]
        try:
            with running(slots, starter(lambda name: Path(folder) / name, timeout_s)):
                return _replayed(divergence, pair, slots)
        except (ProcessDied, OperationFailed) as error:
            reason = f"a side cannot be retrained: {error}"
            return replace(divergence, replays=reason)


def _replayed(divergence: Divergence, pair: BothSides, slots: Sequence[ProcessSlot]) -> Divergence:
    """Retrain both sides up to the epoch; if both reproduce their records, compare its steps."""
    epoch = divergence.epoch or 0
    for letter, slot, side in zip("AB", slots, pair, strict=True):
        machine = machine_difference(side.machine, slot.machine)
        if machine:
            reason = f"skipped: {letter} was {machine}{_kernel_hint(slot, side)}"
            return replace(divergence, replays=reason, commands=trace_commands(pair, epoch, None))
    with ThreadPoolExecutor(2) as pool:
        replays = list(pool.map(_replay, slots, pair, (epoch, epoch)))
    for letter, slot, side, replay in zip("AB", slots, pair, replays, strict=True):
        if replay.trace is None:
            return replace(divergence, transient=_transient(letter, slot, side, replay))
    a, b = (replay.trace for replay in replays if replay.trace)
    reproduced = f"both sides reproduce their epoch digests up to epoch {epoch}"
    return _located(replace(divergence, replays=reproduced), pair, a, b, COMPARED_STEPS)


def _kernel_hint(slot: ProcessSlot, side: TrainingRef) -> str:
    recorded, current = side.machine, slot.machine
    hint = kernels.hint([p for p in kernels.PROPERTIES if recorded.get(p) != current.get(p)])
    return f"; {hint}" if hint else ""


def _replay(slot: ProcessSlot, side: TrainingRef, epoch: int) -> Replayed:
    return retrain.replay(side.opened(slot, recorded=True), side.epoch_digests, epoch)


def _transient(letter: str, slot: ProcessSlot, side: TrainingRef, replay: Replayed) -> str:
    """A sentence that a side does not reproduce its record, and whether its replays agree.

    Different kernels reproducibly give different bits from the first epoch on.
    """
    epoch = replay.epoch
    second = _replay(slot, side, epoch)
    agree = second.trace is None and (second.epoch, second.digest) == (epoch, replay.digest)
    replays = "two replays are identical" if agree else "two replays differ"
    elsewhere = (
        f"; recorded on a different processor? {kernels.HINT}" if agree and not epoch else ""
    )
    return (
        f"transient on {letter} in epoch {epoch}: the record has {side.epoch_digests[epoch][:16]},"
        f" a replay {replay.digest[:16]}; {replays}{elsewhere}"
    )


def trace_commands(pair: BothSides, epoch: int, place: TracePlace | None) -> list[str]:
    """The commands that trace both sides, with the values of the steps from a place on."""
    return [
        f"python -m xorbench trace {side.name} --epoch {epoch}{_valued(side, place)}"
        f" -o {letter}.trace"
        for letter, side in zip("ab", pair, strict=True)
    ]


def _valued(side: TrainingRef, place: TracePlace | None) -> str:
    if place is None or place.step >= side.steps:
        return ""
    return f" --dump-steps {place.step}-{min(place.step + COMPARED_STEPS, side.steps) - 1}"
