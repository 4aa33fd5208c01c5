"""How right the weights are: their distance from a training in double precision."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import numpy as np
import numpy.typing as npt

from xorbench.records.schema.golden import Float64Reference, epoch_digests_sha256
from xorbench.records.schema.training import TrainingRecord
from xorbench.stats.ulps import ranks
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.matrix.case import Case, device_type
from xorbench.xor.matrix.recipe import EPOCH_WEIGHT_BYTES, UNIVERSAL_VISITS, Recipe
from xorbench.xor.matrix.support import float64_key, float64_refusal

FlatWeights = npt.NDArray[np.float32]
FEWEST_EPOCHS: Final = 10  # for a mean over epochs


@dataclass(frozen=True, slots=True)
class Limits:
    """What sound trainings of one precision stay within: `bench/float64_error.py` measures it.

    Attributes:
        worst: error of an epoch, in ulps at the largest weight, over the root of its steps.
        control: or so many times the largest error of NumPy's epochs in that precision.
        typical: by how much the geometric mean over epochs of the error over NumPy's may be above
            one, times the root of their number; infinite where that is no measure.
        loss: relative error of a loss.
        unseen: why a flaw proves nothing, empty where the limits were measured on the real thing.
    """

    worst: float
    control: float
    typical: float
    loss: float
    unseen: str = ""


SIMULATED: Final = "the limits for TF32 come from a simulation, not from a card"
LIMITS: Final = {
    "float32": Limits(worst=1.6, control=0.0, typical=2.5, loss=5e-5),
    "float64": Limits(worst=1.6, control=0.0, typical=math.inf, loss=1e-12),
    "bfloat16": Limits(worst=1.6, control=16.0, typical=30.0, loss=0.05),
    "tf32": Limits(worst=1.6, control=6.0, typical=2.5, loss=0.01, unseen=SIMULATED),
}
HIGHEST_RATE: Final = 1.0  # beyond which a training amplifies what is rounded
SMALLEST_LOSS: Final = 1e-30
SMALLEST_BATCH: Final = 16  # below which it does so too


@dataclass(frozen=True, slots=True)
class Float64Error:
    """The errors of a training, epoch by epoch: its own, NumPy's, and both losses of each."""

    case: Case
    recipe: Recipe
    error_ulps: list[float]
    control_ulps: list[float]
    losses: list[float]
    float64_losses: list[float]

    @property
    def limits(self) -> Limits:
        """The limits of its precision."""
        tf32 = self.case.tf32 and device_type(self.case.device) != "cpu"
        return LIMITS["tf32" if tf32 and self.case.dtype == "float32" else self.case.dtype]

    @property
    def root_steps(self) -> float:
        """Errors of rounding grow with it, as a random walk does."""
        return math.sqrt(self.recipe.steps(self.case.batch_size, self.case.drop_last))

    @property
    def limit_ulps(self) -> float:
        """The most that an epoch may err."""
        limits = self.limits
        return max(limits.worst * self.root_steps, limits.control * max(self.control_ulps))

    @property
    def refusal(self) -> str:
        """Why the errors prove nothing; empty where they do."""
        rate = self.recipe.learning_rate(self.case.batch_size)
        if rate > HIGHEST_RATE:
            return (
                f"no limit is known for lr {rate:g}: above {HIGHEST_RATE:g} rounding is amplified"
            )
        if self.case.batch_size < SMALLEST_BATCH:
            return f"no limit is known for batches below {SMALLEST_BATCH}: rounding is amplified"
        return ""

    @property
    def doubt(self) -> str:
        """Why a flaw would not be the training's own; empty where it would."""
        if max(self.control_ulps) > self.limit_ulps:
            return "NumPy's float32 errs by more than the limit too"
        return self.limits.unseen

    @property
    def worst(self) -> float:
        """The largest error of an epoch, in ulps over the root of the steps."""
        return max(self.error_ulps) / self.root_steps

    @property
    def typical(self) -> float | None:
        """Geometric mean over epochs of the error over NumPy's; None of too few, or without it."""
        pairs = zip(self.error_ulps, self.control_ulps, strict=True)
        logs = [math.log(error / control) for error, control in pairs if error > 0 and control > 0]
        return math.exp(fmean(logs)) if len(logs) >= FEWEST_EPOCHS else None

    @property
    def limit_typical(self) -> float:
        """The most that `typical` may be."""
        return 1 + self.limits.typical / math.sqrt(len(self.error_ulps))

    @property
    def loss(self) -> float:
        """The largest relative error of a loss; not a number where some loss is none."""
        pairs = zip(self.losses, self.float64_losses, strict=True)
        errors = [abs(loss - truth) / max(truth, SMALLEST_LOSS) for loss, truth in pairs]
        return math.nan if any(map(math.isnan, errors)) else max(errors)

    def flaws(self) -> Iterator[str]:
        """What is beyond a limit, in words."""
        epochs = range(len(self.error_ulps))
        wrong = [e for e in epochs if not self.error_ulps[e] <= self.limit_ulps]
        if wrong:
            first = wrong[0]
            most = (
                f"{self.error_ulps[first]:.3g} ulps in epoch {first}, limit {self.limit_ulps:.3g}"
            )
            yield f"{len(wrong)} of {len(epochs)} epochs err by more than they may, {most}"
        if self.typical is not None and self.typical > self.limit_typical:
            yield (
                f"the weights err {self.typical:.3g} times as much as NumPy's,"
                f" limit {self.limit_typical:.3g}"
            )
        if not self.loss <= self.limits.loss:
            yield f"a loss errs by {self.loss:.2g} of itself, limit {self.limits.loss:g}"


def training_error(evidence: Evidence, training: TrainingRecord) -> Float64Error | None:
    """The errors of a training; None where nothing follows it in double precision."""
    reference = followed(evidence, training)
    if reference is None:
        return None
    return Float64Error(
        training.case,
        evidence.run.info.recipe,
        _numbers(reference.error_ulps),
        _numbers(reference.control_ulps),
        _numbers(training.losses),
        _numbers(reference.losses),
    )


def _numbers(values: list[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def followed(evidence: Evidence, training: TrainingRecord) -> Float64Reference | None:
    """The line of `float64.jsonl` that follows this training."""
    return evidence.float64.get(
        (float64_key(training.case), epoch_digests_sha256(training.epoch_digests))
    )


def refusal(evidence: Evidence, training: TrainingRecord) -> str:
    """Why nothing can follow the training; empty where something should."""
    reason = float64_refusal(training.case)
    if reason:
        return reason
    weights, recipe = training.weights, evidence.run.info.recipe
    if weights is None or sum(len(w.hex) // 2 for w in weights.values()) > EPOCH_WEIGHT_BYTES:
        return "no float64 twin: the weights after each epoch are too large to be kept"
    if recipe.epochs * recipe.train_size > UNIVERSAL_VISITS:
        return "no float64 twin: it would take too long"
    return ""


# Alone, from the first epoch on


def weights_after(evidence: Evidence, training: TrainingRecord) -> list[FlatWeights]:
    """The float32 weights after each epoch; empty where they were not kept, or are of another type.

    Both are in the order of the `state_dict`.
    """
    dtypes = {weight.dtype for weight in (training.weights or {}).values()}
    states = evidence.epoch_weights(training)
    if dtypes != {"float32"} or None in states or len(states) != len(training.epoch_digests):
        return []
    return [np.frombuffer(bytes.fromhex(state or ""), "<f4") for state in states]


def distance_ulps(a: FlatWeights, b: FlatWeights) -> int | None:
    """The most float32 numbers that lie between two weights; None where one is not a number."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    return int(np.max(np.abs(ranks(a) - ranks(b)), initial=0))


def drift_ulps(evidence: Evidence, training: TrainingRecord) -> list[float]:
    """After each epoch how far the weights are from those of the training in float64 alone.

    The largest difference, in float32's ulps at the largest weight: an ulp of the weight itself
    would tell more of weights that pass through zero than of errors. Empty where nothing follows
    the training; NaN where a weight is not finite.
    """
    weights, reference = weights_after(evidence, training), followed(evidence, training)
    if not weights or reference is None:
        return []
    truth = np.stack([np.frombuffer(bytes.fromhex(alone), "<f8") for alone in reference.weights])
    with np.errstate(over="ignore", invalid="ignore"):
        ulps = np.spacing(np.max(np.abs(truth), axis=1).astype("<f4"))
        errors: list[float] = (np.max(np.abs(np.stack(weights) - truth), axis=1) / ulps).tolist()
    return errors
