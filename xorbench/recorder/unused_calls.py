"""Calls in the first step that are no part of the training, though they look like it.

A program may call a model in training mode to learn a shape or a stride before it trains: with an
unseeded model that is thrown away, or with empty memory as its input. Such a call reaches no loss.
"""

from __future__ import annotations

import re
import weakref
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
        return [call for call in self.calls if self._is_unused(call, trains, resumed=resumed)]

    def _is_unused(
        self, call: Call, trains: Callable[[nn.Module | None], bool], *, resumed: bool
    ) -> bool:
        if self._reaches_loss(call):
            return False
        module = call.module()
        if not trains(module):
            return True
        if resumed:
            return False
        later = self.calls[self.calls.index(call) + 1 :]
        return any(other.module() is module and self._reaches_loss(other) for other in later)

    def _reaches_loss(self, call: Call) -> bool:
        first, end = call.nodes
        return first == end or any(first <= node < end for node in self.reached)


def renumbered(identity: str, unused: set[int]) -> str:
    """The identity of an event of a call, such as `c2[0]`, without the unused calls before it."""
    match = CALL.match(identity)
    if match is None:
        return identity
    number = int(match[1])
    return f"c{number - sum(other < number for other in unused)}{identity[match.end() :]}"
