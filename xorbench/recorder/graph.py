"""The graph of a backward pass: the leaf tensors that it reaches, and the nodes in between."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .walk import tensors

MOST_NODES = 100_000  # of a graph that are visited


def sequence_number() -> int:
    """The number that the next node of a graph gets in this thread."""
    return torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]


def graph_of(roots: Any) -> tuple[list[Tensor], set[int]]:
    """The leaf tensors that gradients of these will reach, and the nodes' sequence numbers.

    A very large graph is searched only in its first nodes.
    """
    waiting = [root.grad_fn for _, root in tensors(roots)]
    seen, leaves = set(waiting), []
    while waiting and len(seen) < MOST_NODES:
        node = waiting.pop()
        for following, _ in () if node is None else node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
                leaf = getattr(following, "variable", None)
                leaves += [leaf] if isinstance(leaf, Tensor) else []
    numbers = (getattr(node, "_sequence_nr", None) for node in seen)
    return leaves, {number() for number in numbers if number is not None}
