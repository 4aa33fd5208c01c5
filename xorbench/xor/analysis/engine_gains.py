"""Speed of each engine relative to the loader engine, and whether the bits are identical."""

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
    """One engine compared with the loader engine; a figure is None without a loader run.

    Attributes:
        diverged_at: first epoch with different bits; None if all are identical.
        ulps: largest difference of a final weight, in units in the last place.
        break_even_after: epochs until the start-up is recovered; None if never.
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
        groups.setdefault(_loader_variant(variant).id, []).append(variant)
    chosen = [variant for group in groups.values() if len(group) > 1 for variant in group]
    speeds = epochs_per_s(evidence)
    ratios = _ratios(evidence, chosen)
    timed = [variant for variant in chosen if variant.id in speeds]
    return [_gain(evidence, s, speeds[s.id], ratios.get(s.id)) for s in timed]


def _loader_variant(variant: Variant) -> Variant:
    return replace(variant, case=replace(variant.case, engine=REFERENCE))


def _ratios(evidence: Evidence, chosen: Sequence[Variant]) -> dict[str, Ratio]:
    """The loader engine's epoch time ÷ each engine's own, by case id."""
    pairs = {
        variant.id: (variant, loader)
        for variant in chosen
        if variant.case.engine != REFERENCE
        and (loader := _loader_variant(variant)).id in evidence.trainings
    }
    figures = estimates(pair_pool(evidence, pairs))
    return {name: Ratio.from_figure(figure, name) for name, figure in figures.items()}


def _gain(evidence: Evidence, variant: Variant, speed: Figure, ratio: Ratio | None) -> Gain:
    loader = _loader_variant(variant)
    training, startup_s = evidence.first(variant), startup(evidence, variant)
    reference = evidence.first(loader) if loader.id in evidence.trainings else None
    comparable = reference is not None and training_kind(variant.case) == training_kind(loader.case)
    diverged_at, ulps, break_even_after = None, None, None
    if comparable and reference is not None:
        diverged_at = first_difference(training.epoch_digests, reference.epoch_digests)
        ulps = largest_ulps(training.weights, reference.weights)
    if ratio is not None and startup_s is not None:
        loader_s = startup(evidence, loader) or 0.0
        break_even_after = pays_after(startup_s - loader_s, 1 / speed.value, ratio.ratio)
    return Gain(variant, speed, ratio, comparable, diverged_at, ulps, startup_s, break_even_after)


def startup(evidence: Evidence, variant: Variant) -> float | None:
    """Start-up in seconds: the slowest set-up of the engine on this device in a fresh process.

    Later cases of a process reuse compiled code, so only the first one shows the full cost.
    """
    same = (variant.case.engine, variant.case.device, variant.config.id)
    setups = [
        training.startup_s
        for training in evidence.run.trainings
        if (training.case.engine, training.case.device, training.config) == same
    ]
    return max((seconds for seconds in setups if seconds is not None), default=None)


def pays_after(extra_s: float, epoch_s: float, ratio: float) -> int | None:
    """Epochs until a start-up longer by `extra_s` is recovered at `ratio` times the speed."""
    if extra_s <= 0:
        return 0 if ratio >= 1 else None
    saved_s = (ratio - 1) * epoch_s
    return math.ceil(extra_s / saved_s) if saved_s > 0 else None


def largest_ulps(
    a: Mapping[str, WeightRecord] | None, b: Mapping[str, WeightRecord] | None
) -> int | None:
    """The largest distance of two corresponding weights, in units in the last place.

    None if weights were not kept or have different types.
    """
    if a is None or b is None or any(a[key].dtype != b[key].dtype for key in a):
        return None
    pairs = [zip(_places(a[key]), _places(b[key]), strict=True) for key in a]
    return max(abs(x - y) for pair in pairs for x, y in pair)


def _places(weight: WeightRecord) -> list[int]:
    places: list[int] = ranks(np.frombuffer(bytes.fromhex(weight.hex), weight.dtype)).tolist()
    return places


def identity_text(gain: Gain) -> str:
    """Whether the engine's bits are identical to the loader engine's, as text."""
    if gain.variant.case.engine == REFERENCE:
        return ""
    if training_kind(gain.variant.case) != "pytorch":
        return "different training"
    if not gain.comparable:
        return "no loader to compare"
    return "yes" if gain.diverged_at is None else f"diverge at epoch {gain.diverged_at}"
