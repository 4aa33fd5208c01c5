"""Ways to run one epoch of the same training. An engine is a function and its row."""

from collections.abc import Callable
from typing import Final

from xorbench.workload.engines.compiling import compiled
from xorbench.workload.engines.loaders import fetch, loader
from xorbench.workload.engines.parts import CannotHonour, Epoch, Parts
from xorbench.workload.engines.replay import replay
from xorbench.workload.engines.tensors import tensor

__all__ = ["ENGINES", "CannotHonour", "Epoch", "Parts"]

ENGINES: Final[dict[str, Callable[[Parts], Epoch]]] = {
    "loader": loader,
    "fetch": fetch,
    "tensor": tensor,
    "replay": replay,
    "compile": compiled,
}
"""The reference form's; the universal form is not made of these parts (`worker.portable`)."""
