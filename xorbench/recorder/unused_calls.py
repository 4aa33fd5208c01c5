"""Calls in the first step that are no part of the training, though they look like it.

A program may call a model in training mode to learn a shape or a stride before it trains: with an
unseeded model that is thrown away, or with empty memory as its input. Such a call reaches no loss.
"""

from __future__ import annotations

import re
import weakref
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .graph import sequence_number

if TYPE_CHECKING:
    from torch import nn

CALL = re.compile(r"c(\d+)(?!\d)")


@dataclass
class Call:
    """A training call: its number, its module, its events, and the graph nodes that it made.

    Attributes:
        model: the number of the module among those that are trained.
        nodes: the first sequence number of its nodes, and the one after the last.
        events: the same of its events in the step.
    """

    number: int
    module: weakref.ref[nn.Module]
    model: int
    nodes: tuple[int, int]
    events: tuple[int, int]


@dataclass
class FirstCalls:
    """The training calls of the first step, and the nodes that its backward passes reach."""

    calls: list[Call] = field(default_factory=list)
    reached: set[int] = field(default_factory=set)
    passes: int = 0
    _open: tuple[int, int] = (0, 0)

    def enter(self, events: int) -> None:
        """A training call begins; `events` are those of the step so far."""
        self._open = (sequence_number(), events)

    def leave(self, number: int, module: nn.Module, model: int, events: int) -> None:
        """It ends."""
        node, event = self._open
        place = weakref.ref(module)
        self.calls.append(Call(number, place, model, (node, sequence_number()), (event, events)))

    def unused(self, trains: Callable[[nn.Module | None], bool], *, resumed: bool) -> list[Call]:
        """The calls that reach no loss, of a model that is not trained or is called again.

        `trains` is true if a gradient or an optimizer has a parameter of a model. The call of a
        generator whose output is detached reaches no loss either, and is a part of the training.
        A step that resumes a training is compared with a later one, which keeps all its calls: if
        `resumed`, those of a trained model stay.
        """
        if not self.passes:
            return []
        reached = sorted(self.reached)
        unused: list[Call] = []
        used_later: set[int] = set()  # the modules of later calls that reach a loss
        for call in reversed(self.calls):
            module = call.module()
            if _has_node(reached, call.nodes):
                used_later.add(id(module))
            elif not trains(module) or (not resumed and id(module) in used_later):
                unused.append(call)
        return unused[::-1]


def _has_node(reached: list[int], nodes: tuple[int, int]) -> bool:
    """Whether one of a call's nodes is reached; also for a call that made none."""
    first, end = nodes
    place = bisect_left(reached, first)
    return first == end or (place < len(reached) and reached[place] < end)


def renumbered(identity: str, unused: set[int]) -> str:
    """The identity of an event of a call, such as `c2[0]`, without the unused calls before it."""
    match = CALL.match(identity)
    if match is None:
        return identity
    number = int(match[1])
    return f"c{number - sum(other < number for other in unused)}{identity[match.end() :]}"
