"""What an engine gains over the loader engine, and whether it has the same bits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xorbench.records.schema.training import WeightRecord
from xorbench.state_digest import first_difference
from xorbench.stats.figure import Figure
from xorbench.stats.intervals import estimates
from xorbench.stats.ratio import Ratio
from xorbench.stats.ulps import ranks
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.setting_costs import pair_pool
from xorbench.xor.analysis.speed import epochs_per_s
from xorbench.xor.matrix.case import Variant
from xorbench.xor.matrix.engines import training_kind

REFERENCE = "loader"


@dataclass(frozen=True, slots=True)
class Gain:
    """One engine beside the loader engine; a figure is None where there is no loader to compare.

    `diverged_at` is the first epoch whose bits differ, None where all are equal; `ulps` the largest
    difference of a final weight, in units of the last place. `break_even_after` is in epochs, None
    where the start-up never pays.
    """

    variant: Variant
    epochs_per_s: Figure
    ratio: Ratio | None
    comparable: bool
    diverged_at: int | None
    ulps: int | None
    startup_s: float | None
    break_even_after: int | None


def gains(evidence: Evidence) -> list[Gain]:
    """Every engine of the groups in which more than one ran, in the order of the plan."""
    groups: dict[str, list[Variant]] = {}
    for variant in evidence.variants:
        groups.setdefault(_twin(variant).id, []).append(variant)
    chosen = [variant for group in groups.values() if len(group) > 1 for variant in group]
    speeds = epochs_per_s(evidence)
    ratios = _ratios(evidence, chosen)
    timed = [variant for variant in chosen if variant.id in speeds]
    return [_gain(evidence, s, speeds[s.id], ratios.get(s.id)) for s in timed]


def _twin(variant: Variant) -> Variant:
    return replace(variant, case=replace(variant.case, engine=REFERENCE))


def _ratios(evidence: Evidence, chosen: Sequence[Variant]) -> dict[str, Ratio]:
    """The loader engine's epoch time over the time of each other engine, by the id of its case."""
    pairs = {
        variant.id: (variant, twin)
        for variant in chosen
        if variant.case.engine != REFERENCE and (twin := _twin(variant)).id in evidence.trainings
    }
    figures = estimates(pair_pool(evidence, pairs))
    return {name: Ratio.from_figure(figure, name) for name, figure in figures.items()}


def _gain(evidence: Evidence, variant: Variant, speed: Figure, ratio: Ratio | None) -> Gain:
    twin = _twin(variant)
    training, startup_s = evidence.first(variant), startup(evidence, variant)
    reference = evidence.first(twin) if twin.id in evidence.trainings else None
    comparable = reference is not None and training_kind(variant.case) == training_kind(twin.case)
    diverged_at, ulps, break_even_after = None, None, None
    if comparable and reference is not None:
        diverged_at = first_difference(training.epoch_digests, reference.epoch_digests)
        ulps = largest_ulps(training.weights, reference.weights)
    if ratio is not None and startup_s is not None:
        loader_s = startup(evidence, twin) or 0.0
        break_even_after = pays_after(startup_s - loader_s, 1 / speed.value, ratio.ratio)
    return Gain(variant, speed, ratio, comparable, diverged_at, ulps, startup_s, break_even_after)


def startup(evidence: Evidence, variant: Variant) -> float | None:
    """Seconds until the engine was ready: its slowest opening on this device, in a fresh process.

    What one case has compiled, the next of the same process finds: the first one pays for all.
    """
    same = (variant.case.engine, variant.case.device, variant.config.id)
    openings = [
        training.startup_s
        for training in evidence.run.trainings
        if (training.case.engine, training.case.device, training.config) == same
    ]
    return max((seconds for seconds in openings if seconds is not None), default=None)


def pays_after(extra_s: float, epoch_s: float, ratio: float) -> int | None:
    """After how many epochs a start-up of `extra_s` more has paid, at `ratio` times the speed."""
    if extra_s <= 0:
        return 0 if ratio >= 1 else None
    saved_s = (ratio - 1) * epoch_s
    return math.ceil(extra_s / saved_s) if saved_s > 0 else None


def largest_ulps(
    a: Mapping[str, WeightRecord] | None, b: Mapping[str, WeightRecord] | None
) -> int | None:
    """The largest distance of two equally placed weights, in units of the last place.

    That is how many floating-point numbers lie between them and one more; None where weights
    were not kept, or are of two types.
    """
    if a is None or b is None or any(a[key].dtype != b[key].dtype for key in a):
        return None
    pairs = [zip(_places(a[key]), _places(b[key]), strict=True) for key in a]
    return max(abs(x - y) for pair in pairs for x, y in pair)


def _places(weight: WeightRecord) -> list[int]:
    places: list[int] = ranks(np.frombuffer(bytes.fromhex(weight.hex), weight.dtype)).tolist()
    return places


def same_bits(gain: Gain) -> str:
    """In words: whether the engine has the bits of the loader engine."""
    if gain.variant.case.engine == REFERENCE:
        return ""
    if training_kind(gain.variant.case) != "pytorch":
        return "another training"
    if not gain.comparable:
        return "no loader to compare"
    return "yes" if gain.diverged_at is None else f"diverge at epoch {gain.diverged_at}"
