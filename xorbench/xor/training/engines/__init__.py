"""Implementations of the engines of `xor.matrix.engines`."""

from xorbench.registry import implementation
from xorbench.xor.matrix.engines import ENGINES
from xorbench.xor.training.engines.spec import EpochFunction, TrainingSpec, UnsupportedCase

__all__ = ["EpochFunction", "TrainingSpec", "UnsupportedCase", "opened"]


def opened(engine: str, spec: TrainingSpec) -> EpochFunction:
    """Initialize an engine; its function trains one epoch."""
    epoch: EpochFunction = implementation(ENGINES[engine].epoch)(spec)
    return epoch
