"""The shares of an epoch's time by phase: a median over epochs, an interval between processes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from xorbench.judge.evidence import Evidence
from xorbench.judge.stats import Estimate, median_log_ratio, pooled
from xorbench.judge.verdicts import some
from xorbench.observe.records.phases import PhasesLine, PhaseTimes
from xorbench.plan.case import Variant
from xorbench.plan.phases import PHASES, inseparable

REST = "rest"  # of an epoch: the loop itself, and the marks


@dataclass(frozen=True, slots=True)
class PhaseShares:
    """The shares of one variant.

    Attributes:
        shares: of the marked epoch, by phase and for the rest; None where a phase has no share.
        cost: time of an epoch with marks, divided by the time of one without.
        processes: how many processes measured it.
        note: why it has no shares, or why some processes are left out; empty where all have them.
    """

    variant: Variant
    shares: Mapping[str, Estimate | None]
    cost: Estimate | None
    processes: int
    note: str


def phase_shares(evidence: Evidence) -> list[PhaseShares]:
    """The shares of each finished variant; nothing for a run that did not time phases."""
    if not evidence.run.info.phases:
        return []
    sound = {variant.id: _sound(evidence, variant) for variant in evidence.variants}
    shares = {name: pooled(_logs(sound, share_log(name))) for name in (*PHASES, REST)}
    costs = pooled(_logs(sound, _cost_log))
    return [
        PhaseShares(
            variant=variant,
            shares={name: found.get(variant.id) for name, found in shares.items()},
            cost=costs.get(variant.id),
            processes=len(sound[variant.id]),
            note=_note(evidence, variant),
        )
        for variant in evidence.variants
    ]


def share_log(name: str) -> Callable[[PhasesLine], float | None]:
    """The log of a phase's share in one process: the median of its marked epochs."""

    def log(line: PhasesLine) -> float | None:
        share = median(seconds_of(one, name) / one.epoch_s for one in line.marked)
        return math.log(share) if share > 0 else None

    return log


def seconds_of(times: PhaseTimes, name: str) -> float:
    """Seconds of a phase in one marked epoch, or of the rest."""
    if name == REST:
        return times.epoch_s - math.fsum(seconds_of(times, phase) for phase in PHASES)
    seconds: float = getattr(times, f"{name}_s")
    return seconds


def _cost_log(line: PhasesLine) -> float:
    """Log of the time of a marked epoch, divided by the time of the unmarked one after it."""
    marked = [one.epoch_s for one in line.marked]
    return median_log_ratio(marked, line.unmarked_epoch_s[-len(marked) :])


def _logs(
    sound: Mapping[str, list[PhasesLine]], figure: Callable[[PhasesLine], float | None]
) -> dict[str, list[float]]:
    found = {
        name: [log for line in lines if (log := figure(line)) is not None]
        for name, lines in sound.items()
    }
    return {name: logs for name, logs in found.items() if logs}


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
