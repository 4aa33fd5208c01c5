"""The shares of an epoch's time by phase: medians over epochs, an interval between processes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from xorbench.records.schema.phases import PhasesLine
from xorbench.stats.figure import Figure
from xorbench.stats.intervals import pooled
from xorbench.verdicts import some
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.matrix.case import Variant
from xorbench.xor.matrix.phases import PHASES, inseparable

REST = "rest"  # of an epoch: the loop itself, and the marks


@dataclass(frozen=True, slots=True)
class PhaseShares:
    """The shares of one variant.

    Attributes:
        shares: of a marked epoch, by phase and for the rest; None where a phase took no time.
        cost: time of an epoch with marks, divided by the time of one without.
        processes: how many processes measured it.
        note: why it has no shares, or why some processes are left out; empty where all have them.
    """

    variant: Variant
    shares: Mapping[str, Figure | None]
    cost: Figure | None
    processes: int
    note: str


def phase_shares(evidence: Evidence) -> list[PhaseShares]:
    """The shares of each finished variant; nothing for a run that did not time phases."""
    if not evidence.run.info.phases:
        return []
    sound = {variant.id: _sound(evidence, variant) for variant in evidence.variants}
    shares = {name: _shares(sound, name) for name in (*PHASES, REST)}
    costs = pooled(_logs(sound, _cost_log))
    return [
        PhaseShares(
            variant=variant,
            shares={name: figures.get(variant.id) for name, figures in shares.items()},
            cost=costs.get(variant.id),
            processes=len(sound[variant.id]),
            note=_note(evidence, variant),
        )
        for variant in evidence.variants
    ]


def _shares(sound: Mapping[str, list[PhasesLine]], name: str) -> dict[str, Figure]:
    """The share of a phase by variant, estimated as odds, so that it stays between 0 and 1."""
    odds = pooled(_logs(sound, _log_odds(name)))
    return {variant: _share(figure) for variant, figure in odds.items()}


def phase_seconds(line: PhasesLine) -> dict[str, float]:
    """Seconds of each phase of an epoch in one process, and of the rest.

    Of each slot the median of the marked epochs is taken, and these are added up: what disturbs one
    step of one epoch then counts for nothing, and what each epoch does at one step counts in full.
    """
    each = dict(
        zip(PHASES, zip(*(epoch.phases() for epoch in line.marked), strict=True), strict=True)
    )
    seconds = {phase: _typical(epochs) for phase, epochs in each.items()}
    rests = [epoch.epoch_s - sum(map(math.fsum, epoch.phases())) for epoch in line.marked]
    return seconds | {REST: max(0.0, median(rests))}


def _typical(epochs: Sequence[Sequence[float]]) -> float:
    return math.fsum(median(slot) for slot in zip(*epochs, strict=True))


def _log_odds(name: str) -> Callable[[PhasesLine], float | None]:
    """The log of a phase's time, divided by the time of all others, in one process."""

    def log(line: PhasesLine) -> float | None:
        seconds = phase_seconds(line)
        own = seconds.pop(name)
        rest = math.fsum(seconds.values())
        return math.log(own / rest) if own > 0 and rest > 0 else None

    return log


def _share(odds: Figure) -> Figure:
    low, high = (None if bound is None else bound / (1 + bound) for bound in (odds.low, odds.high))
    return replace(odds, value=odds.value / (1 + odds.value), low=low, high=high)


def _cost_log(line: PhasesLine) -> float:
    """Log of an epoch with marks, divided by the fastest without marks after the first."""
    unmarked = min(line.unmarked_epoch_s[1:])
    return math.log(math.fsum(phase_seconds(line).values()) / unmarked)


def _logs(
    sound: Mapping[str, list[PhasesLine]], figure: Callable[[PhasesLine], float | None]
) -> dict[str, list[float]]:
    logs_by_variant = {
        name: [log for line in lines if (log := figure(line)) is not None]
        for name, lines in sound.items()
    }
    return {name: logs for name, logs in logs_by_variant.items() if logs}


def _sound(evidence: Evidence, variant: Variant) -> list[PhasesLine]:
    """The passes over a variant whose times count."""
    return [line for line in evidence.phases.get(variant.id, []) if not _flaw(evidence, line)]


def _flaw(evidence: Evidence, line: PhasesLine) -> str:
    """Why the times of a pass do not count; empty where they do."""
    if line.failed:
        return line.failed
    training = evidence.training_of(line)
    if training is None:
        return "the training is not on record"
    if any(a != b for a, b in zip(line.digests, training.epoch_digests, strict=False)):
        return "the pass had different bits from the timed epochs"
    return (
        "" if training in evidence.timed[evidence.variant(training).id] else "see the clock check"
    )


def _note(evidence: Evidence, variant: Variant) -> str:
    if reason := inseparable(variant.case):
        return reason
    lines = evidence.phases.get(variant.id, [])
    flaws = [f"{line.process}: {flaw}" for line in lines if (flaw := _flaw(evidence, line))]
    if not lines:
        return "not measured"
    return f"left out: {some(flaws, 2, '; ')}" if flaws else ""
