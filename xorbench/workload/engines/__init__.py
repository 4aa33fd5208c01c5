"""Ways to run one epoch of the same training. An engine is a function and its row."""

from collections.abc import Callable
from typing import Final

from xorbench.workload.engines.compiling import compiled
from xorbench.workload.engines.loaders import fetch, loader
from xorbench.workload.engines.replay import replay
from xorbench.workload.engines.spec import CannotHonour, EpochFunction, TrainingSpec
from xorbench.workload.engines.tensors import tensor

__all__ = ["ENGINES", "CannotHonour", "EpochFunction", "TrainingSpec"]

ENGINES: Final[dict[str, Callable[[TrainingSpec], EpochFunction]]] = {
    "loader": loader,
    "fetch": fetch,
    "tensor": tensor,
    "replay": replay,
    "compile": compiled,
}
"""The engines of the PyTorch training; that of the other is in `process.universal_training`."""
