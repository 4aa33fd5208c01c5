"""How right the weights are: their distance from a training in double precision."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from xorbench.judge.evidence import Evidence
from xorbench.judge.ulps import ranks
from xorbench.observe.records import Exact, Training
from xorbench.plan.case import Case
from xorbench.plan.engines import exact_twin

Weights = npt.NDArray[np.float32]


def weights_after(evidence: Evidence, training: Training) -> list[Weights]:
    """The float32 weights after each epoch; empty where they were not kept, or are of another type.

    Both are in the order of the `state_dict`.
    """
    dtypes = {weight.dtype for weight in (training.weights or {}).values()}
    kept = evidence.epoch_weights(training)
    if dtypes != {"float32"} or None in kept or len(kept) != len(training.tape):
        return []
    return [np.frombuffer(bytes.fromhex(one or ""), "<f4") for one in kept]


def distance_ulps(a: Weights, b: Weights) -> int | None:
    """The most float32 numbers that lie between two weights; None where one is not a number."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    return int(np.max(np.abs(ranks(a) - ranks(b)), initial=0))


def error_ulps(evidence: Evidence, training: Training) -> list[float]:
    """After each epoch the largest error of a weight, in float32's ulps at the largest weight.

    An ulp of the weight itself would tell more of weights that pass through zero than of errors.
    Empty where there is nothing to hold it against; NaN where a weight is not finite.
    """
    weights, exact = weights_after(evidence, training), _exact(evidence, training)
    if not weights or exact is None:
        return []
    return [_error(w, bytes.fromhex(e)) for w, e in zip(weights, exact.weights, strict=True)]


def _error(weights: Weights, exact: bytes) -> float:
    truth = np.frombuffer(exact, "<f8")
    with np.errstate(over="ignore", invalid="ignore"):
        ulp = np.spacing(np.max(np.abs(truth)).astype("<f4"))
        return float(np.max(np.abs(weights.astype(np.float64) - truth), initial=0.0) / ulp)


def _exact(evidence: Evidence, training: Training) -> Exact | None:
    """The training in double precision of this case, from its own inputs if there is one."""
    if not exact_twin(training.case):
        return None
    fitting = [one for one in evidence.run.exact if _recipe(one) == _recipe(training.case)]
    return next((x for x in fitting if x.inputs_sha256 == training.inputs_sha256), _first(fitting))


def _first(found: Sequence[Exact]) -> Exact | None:
    return found[0] if found else None


def _recipe(case: Case | Exact) -> tuple[int, bool, int]:
    return case.batch_size, case.drop_last, case.seed
