"""Where two trainings diverge: epoch, step, tensor, element, and how the difference grows."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from xorbench.programs.elements import Difference, between
from xorbench.programs.event_names import label
from xorbench.programs.first_difference import Coverage, FirstDifference, first_of
from xorbench.records.trace import EpochTrace, TraceEvent, TraceStep, inline_values
from xorbench.state_digest import first_difference


@dataclass(frozen=True, slots=True)
class TracePlace:
    """The first step and tensor that differ; no tensor where one side has no such step."""

    epoch: int
    step: int
    tensor: str | None


@dataclass(frozen=True, slots=True)
class Growth:
    """What of the difference is in the weights after a step."""

    step: int
    differing: int
    elements: int
    largest_ulps: int | None


def first_place(a: EpochTrace, b: EpochTrace) -> tuple[TracePlace, FirstDifference] | None:
    """The first step and tensor at which two traces of an epoch differ."""
    names: dict[str, str] = {}
    for step, step_b in zip(a.steps, b.steps, strict=False):
        names |= {identity: name for identity, (name, _, _) in step.names.items()}
        first = first_of(step.step, step.events, step_b.events, Coverage(), names)
        if first is not None:
            return TracePlace(a.epoch, step.step, label(first)), first
    if len(a.steps) != len(b.steps):
        steps = (len(a.steps), len(b.steps))
        first = FirstDifference(min(steps), "steps", None, None, steps=steps)
        return TracePlace(a.epoch, min(steps), None), first
    return None


def element(first: FirstDifference) -> Difference | None:
    """How the tensors of the first event that differs differ; None where they were not kept."""
    return None if first.a is None or first.b is None else compare(first.a, first.b)


def compare(a: TraceEvent, b: TraceEvent) -> Difference | None:
    """How two tensors of traces with their values differ; None where these were not kept."""
    bytes_a, bytes_b = inline_values(a), inline_values(b)
    return None if bytes_a is None or bytes_b is None else between(a, b, bytes_a, bytes_b)


def growth(a: EpochTrace, b: EpochTrace, steps: range = range(sys.maxsize)) -> list[Growth]:
    """How far apart the weights are after each of `steps` of which both sides have values."""
    rows = []
    for step, step_b in zip(a.steps, b.steps, strict=False):
        pairs = zip(_weights(step), _weights(step_b), strict=False) if step.step in steps else ()
        tensors = [d for pair in pairs if (d := compare(*pair)) is not None]
        if tensors:
            known = [d.largest_ulps for d in tensors if d.largest_ulps is not None]
            differing = sum(d.differing for d in tensors)
            elements = sum(d.elements for d in tensors)
            rows.append(Growth(step.step, differing, elements, max(known, default=None)))
    return rows


def _weights(step: TraceStep) -> list[TraceEvent]:
    return [event for event in step.events if event.kind == "new parameter"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """All that is known of where two trainings diverge; what is not known is None or empty.

    Attributes:
        a, b: what was compared, as one would name it again.
        notes: what should be known before the rest.
        inputs: the digests of points and initial weights on both sides.
        epochs: how many epochs both sides have digests of.
        epoch: the first of them that differs.
        replays: the result of training both sides again, or why it was not done.
        transient: a side that does not reproduce its record, and where.
        commands: what would give the missing values.
    """

    a: str
    b: str
    notes: list[str]
    inputs: tuple[str, str]
    epochs: int
    epoch: int | None = None
    replays: str = ""
    transient: str = ""
    place: TracePlace | None = None
    difference: Difference | None = None
    growth: list[Growth] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    @property
    def diverged(self) -> bool:
        """Whether anything differs."""
        inputs_differ = self.inputs[0] != self.inputs[1]
        somewhere = self.epoch is not None or self.place is not None
        return inputs_differ or somewhere or bool(self.transient)


def first_epoch(a: Mapping[int, str], b: Mapping[int, str]) -> int | None:
    """The first epoch of which both have a digest, and another one."""
    both = sorted(a.keys() & b)
    index = first_difference([a[epoch] for epoch in both], [b[epoch] for epoch in both])
    return None if index is None else both[index]
