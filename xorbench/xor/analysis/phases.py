"""The shares of an epoch's time by phase: medians over epochs, intervals between processes."""

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

REST = "rest"  # the rest of an epoch: the loop itself and the marks


@dataclass(frozen=True, slots=True)
class PhaseShares:
    """The shares of one variant.

    Attributes:
        shares: shares of a marked epoch, by phase and for the rest; None if a phase took no time.
        cost: time of an epoch with marks ÷ time of an epoch without.
        processes: number of processes with valid passes.
        note: why shares are missing or passes are invalid; empty if all passes are valid.
    """

    variant: Variant
    shares: Mapping[str, Figure | None]
    cost: Figure | None
    processes: int
    note: str


def phase_shares(evidence: Evidence) -> list[PhaseShares]:
    """The shares of each finished variant; empty for a run that did not time phases."""
    if not evidence.run.info.phases:
        return []
    valid = {variant.id: _valid(evidence, variant) for variant in evidence.variants}
    shares = {name: _shares(valid, name) for name in (*PHASES, REST)}
    costs = pooled(_logs(valid, _cost_log))
    return [
        PhaseShares(
            variant=variant,
            shares={name: figures.get(variant.id) for name, figures in shares.items()},
            cost=costs.get(variant.id),
            processes=len(valid[variant.id]),
            note=_note(evidence, variant),
        )
        for variant in evidence.variants
    ]


def _shares(valid: Mapping[str, list[PhasesLine]], name: str) -> dict[str, Figure]:
    """The share of a phase by variant, estimated as odds to stay between 0 and 1."""
    odds = pooled(_logs(valid, _log_odds(name)))
    return {variant: _share(figure) for variant, figure in odds.items()}


def phase_seconds(line: PhasesLine) -> dict[str, float]:
    """Seconds of each phase of an epoch in one process, and of the rest.

    The medians over the marked epochs are taken for each slot, then added: a disturbance of one
    step in one epoch has no effect, a cost of the same step in every epoch counts in full.
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
    """The log of a phase's time ÷ the time of all other phases, in one process."""

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
    """Log of an epoch with marks ÷ the fastest epoch without marks after the first."""
    unmarked = min(line.unmarked_epoch_s[1:])
    return math.log(math.fsum(phase_seconds(line).values()) / unmarked)


def _logs(
    valid: Mapping[str, list[PhasesLine]], figure: Callable[[PhasesLine], float | None]
) -> dict[str, list[float]]:
    logs_by_variant = {
        name: [log for line in lines if (log := figure(line)) is not None]
        for name, lines in valid.items()
    }
    return {name: logs for name, logs in logs_by_variant.items() if logs}


def _valid(evidence: Evidence, variant: Variant) -> list[PhasesLine]:
    """The passes over a variant with valid times."""
    return [line for line in evidence.phases.get(variant.id, []) if not _flaw(evidence, line)]


def _flaw(evidence: Evidence, line: PhasesLine) -> str:
    """Why the times of a pass are invalid; empty if they are valid."""
    if line.failed:
        return line.failed
    training = evidence.training_of(line)
    if training is None:
        return "the training was not recorded"
    if any(a != b for a, b in zip(line.digests, training.epoch_digests, strict=False)):
        return "the bits differ from the timed epochs"
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
    return f"invalid: {some(flaws, 2, '; ')}" if flaws else ""
