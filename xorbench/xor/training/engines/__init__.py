"""Ways to run one epoch of the same training; `xor.matrix.engines` has the row of each."""

from xorbench.registry import implementation
from xorbench.xor.matrix.engines import ENGINES
from xorbench.xor.training.engines.spec import EpochFunction, TrainingSpec, UnsupportedCase

__all__ = ["EpochFunction", "TrainingSpec", "UnsupportedCase", "opened"]


def opened(engine: str, spec: TrainingSpec) -> EpochFunction:
    """An engine's function that trains one epoch of a training."""
    epoch: EpochFunction = implementation(ENGINES[engine].epoch)(spec)
    return epoch
