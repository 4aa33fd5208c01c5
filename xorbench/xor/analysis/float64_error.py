"""Errors of the weights: their distance from a float64 reference."""

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
    """Limits for correct trainings of one precision, measured by `bench/float64_error.py`.

    Attributes:
        worst: error of an epoch, in ulps of the largest weight, ÷ the root of its steps.
        control: alternative limit, as a multiple of NumPy's largest error in that precision.
        typical: limit of the geometric mean over epochs of error ÷ NumPy's error, less one, times
            the root of the number of epochs; infinite where it does not apply.
        loss: relative error of a loss.
        caveat: why an excess proves nothing; empty if the limits were measured on a device.
    """

    worst: float
    control: float
    typical: float
    loss: float
    caveat: str = ""


SIMULATED: Final = "the limits for TF32 come from a simulation, not from a GPU"
LIMITS: Final = {
    "float32": Limits(worst=1.6, control=0.0, typical=2.5, loss=5e-5),
    "float64": Limits(worst=1.6, control=0.0, typical=math.inf, loss=1e-12),
    "bfloat16": Limits(worst=1.6, control=16.0, typical=30.0, loss=0.05),
    "tf32": Limits(worst=1.6, control=6.0, typical=2.5, loss=0.01, caveat=SIMULATED),
}
HIGHEST_RATE: Final = 1.0  # learning rate above which a training amplifies rounding errors
SMALLEST_LOSS: Final = 1e-30
SMALLEST_BATCH: Final = 16  # batch size below which a training amplifies them, too


@dataclass(frozen=True, slots=True)
class Float64Error:
    """The errors of a training and of NumPy by epoch, and the losses of both precisions."""

    case: Case
    recipe: Recipe
    error_ulps: list[float]
    control_ulps: list[float]
    losses: list[float]
    float64_losses: list[float]

    @property
    def limits(self) -> Limits:
        """The limits for the precision of the training."""
        tf32 = self.case.tf32 and device_type(self.case.device) != "cpu"
        return LIMITS["tf32" if tf32 and self.case.dtype == "float32" else self.case.dtype]

    @property
    def root_steps(self) -> float:
        """The root of the steps of an epoch; rounding errors grow with it, like a random walk."""
        return math.sqrt(self.recipe.steps(self.case.batch_size, self.case.drop_last))

    @property
    def limit_ulps(self) -> float:
        """The largest error of an epoch that passes."""
        limits = self.limits
        return max(limits.worst * self.root_steps, limits.control * max(self.control_ulps))

    @property
    def refusal(self) -> str:
        """Why the errors cannot be judged; empty if they can."""
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
        """Why an excess may not come from the training; empty if it does."""
        if max(self.control_ulps) > self.limit_ulps:
            return "NumPy's float32 also exceeds the limit"
        return self.limits.caveat

    @property
    def worst(self) -> float:
        """The largest error of an epoch, in ulps ÷ the root of the steps."""
        return max(self.error_ulps) / self.root_steps

    @property
    def typical(self) -> float | None:
        """Geometric mean over epochs of error ÷ NumPy's error; None with too few epochs."""
        pairs = zip(self.error_ulps, self.control_ulps, strict=True)
        logs = [math.log(error / control) for error, control in pairs if error > 0 and control > 0]
        return math.exp(fmean(logs)) if len(logs) >= FEWEST_EPOCHS else None

    @property
    def limit_typical(self) -> float:
        """The largest value of `typical` that passes."""
        return 1 + self.limits.typical / math.sqrt(len(self.error_ulps))

    @property
    def loss(self) -> float:
        """The largest relative error of a loss; NaN if a loss is not finite."""
        pairs = zip(self.losses, self.float64_losses, strict=True)
        errors = [abs(loss - exact) / max(exact, SMALLEST_LOSS) for loss, exact in pairs]
        return math.nan if any(map(math.isnan, errors)) else max(errors)

    def flaws(self) -> Iterator[str]:
        """The errors beyond a limit, as text."""
        epochs = range(len(self.error_ulps))
        exceeding = [e for e in epochs if not self.error_ulps[e] <= self.limit_ulps]
        if exceeding:
            first = exceeding[0]
            yield (
                f"{len(exceeding)} of {len(epochs)} epochs exceed the error limit:"
                f" {self.error_ulps[first]:.3g} ulps in epoch {first}, limit {self.limit_ulps:.3g}"
            )
        if self.typical is not None and self.typical > self.limit_typical:
            yield (
                f"the typical error is {self.typical:.3g} times NumPy's,"
                f" limit {self.limit_typical:.3g}"
            )
        if not self.loss <= self.limits.loss:
            yield f"relative error of a loss {self.loss:.2g}, limit {self.limits.loss:g}"


def training_error(evidence: Evidence, training: TrainingRecord) -> Float64Error | None:
    """The errors of a training; None without a float64 reference."""
    reference = float64_reference(evidence, training)
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


def float64_reference(evidence: Evidence, training: TrainingRecord) -> Float64Reference | None:
    """The line of `float64.jsonl` for this training."""
    return evidence.float64.get(
        (float64_key(training.case), epoch_digests_sha256(training.epoch_digests))
    )


def refusal(evidence: Evidence, training: TrainingRecord) -> str:
    """Why the training has no float64 reference; empty if it should have one."""
    reason = float64_refusal(training.case)
    if reason:
        return reason
    weights, recipe = training.weights, evidence.run.info.recipe
    if weights is None or sum(len(w.hex) // 2 for w in weights.values()) > EPOCH_WEIGHT_BYTES:
        return "no float64 reference: the weights after each epoch are too large to store"
    if recipe.epochs * recipe.train_size > UNIVERSAL_VISITS:
        return "no float64 reference: it would take too long"
    return ""


# Distance from an independent float64 training


def weights_after(evidence: Evidence, training: TrainingRecord) -> list[FlatWeights]:
    """The float32 weights after each epoch, in the order of the `state_dict`.

    Empty if they were not stored or have a different type.
    """
    dtypes = {weight.dtype for weight in (training.weights or {}).values()}
    states = evidence.epoch_weights(training)
    if dtypes != {"float32"} or None in states or len(states) != len(training.epoch_digests):
        return []
    return [np.frombuffer(bytes.fromhex(state or ""), "<f4") for state in states]


def distance_ulps(a: FlatWeights, b: FlatWeights) -> int | None:
    """The largest distance of two weights in float32 ulps; None if a weight is not finite."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    return int(np.max(np.abs(ranks(a) - ranks(b)), initial=0))


def drift_ulps(evidence: Evidence, training: TrainingRecord) -> list[float]:
    """The distance of the weights from an independent float64 training, after each epoch.

    The largest difference, in float32 ulps of the largest weight: an ulp of the weight itself
    would be dominated by weights that cross zero. Empty without a float64 reference; NaN where a
    weight is not finite.
    """
    weights, reference = weights_after(evidence, training), float64_reference(evidence, training)
    if not weights or reference is None:
        return []
    exact = np.stack([np.frombuffer(bytes.fromhex(state), "<f8") for state in reference.weights])
    with np.errstate(over="ignore", invalid="ignore"):
        ulps = np.spacing(np.max(np.abs(exact), axis=1).astype("<f4"))
        errors: list[float] = (np.max(np.abs(np.stack(weights) - exact), axis=1) / ulps).tolist()
    return errors
