"""Steps of a training that updates its weights without `torch.optim`.

Such a step is one or more backward passes after which the weights change: by hand, by an optimizer
class of a library, or by a compiled optimizer step, which calls no hook. Changes are found by
digest, since a write through `.data` or NumPy leaves the version counter of a tensor as it is.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Leaf(NamedTuple):
    """A leaf tensor of a graph that is in no module, and its digest at the backward pass."""

    tensor: Tensor
    digest: str


class Updates:
    """Which backward passes of the open step may have been followed by an update.

    Attributes:
        by_optimizer: an optimizer of `torch.optim` has stepped, and its steps count from then on.
        passes: outermost backward passes of the open step.
        depth: backward passes under way, one within another.
        leaves: leaf tensors of the last pass that are in no module, by order of discovery.
        compared: whether the weights of modules were compared since the last pass.
        ended: steps that ended without an optimizer.
    """

    def __init__(self) -> None:
        self.by_optimizer = False
        self.passes = 0
        self.depth = 0
        self.leaves: list[Leaf] = []
        self.compared = True
        self.ended = 0

    @property
    def possible(self) -> bool:
        """Whether an update may have happened that has not been looked for."""
        return not self.by_optimizer and self.passes > 0 and not self.compared

    def begin(self) -> None:
        """A step begins, without a backward pass."""
        self.passes, self.compared = 0, True

    def stepped(self) -> None:
        """An optimizer steps: its steps count, and nothing else is looked at."""
        self.by_optimizer = True
        self.leaves = []

    def rebound(self, leaves: list[Leaf]) -> bool:
        """Whether the leaves of a pass are those of the pass before with different values.

        A training that replaces its tensors in each step, `w = w - lr * g`, has new ones.
        """
        before = {id(leaf.tensor): leaf.digest for leaf in self.leaves}
        kept = [leaf for leaf in leaves if id(leaf.tensor) in before]
        if kept:
            return any(before[id(leaf.tensor)] != leaf.digest for leaf in kept)
        shapes = [[leaf.tensor.shape for leaf in side] for side in (self.leaves, leaves)]
        digests = [[leaf.digest for leaf in side] for side in (self.leaves, leaves)]
        return shapes[0] == shapes[1] and digests[0] != digests[1]
