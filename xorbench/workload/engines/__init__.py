"""Ways to run one epoch of the same training; `plan.engines` has the row of each."""

from xorbench.plan.engines import ENGINES
from xorbench.plan.registry import implementation
from xorbench.workload.engines.spec import CannotHonour, EpochFunction, TrainingSpec

__all__ = ["CannotHonour", "EpochFunction", "TrainingSpec", "opened"]


def opened(engine: str, spec: TrainingSpec) -> EpochFunction:
    """An engine's function that trains one epoch of a training."""
    epoch: EpochFunction = implementation(ENGINES[engine].epoch)(spec)
    return epoch
