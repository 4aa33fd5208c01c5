"""The divergence of two trainings: epoch, step, tensor, element, and growth."""

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
    """The first step and tensor that differ; no tensor if a side lacks the step."""

    epoch: int
    step: int
    tensor: str | None


@dataclass(frozen=True, slots=True)
class Growth:
    """The difference of the weights after a step."""

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
    """The difference of the first event's tensors; None without recorded values."""
    return None if first.a is None or first.b is None else compare(first.a, first.b)


def compare(a: TraceEvent, b: TraceEvent) -> Difference | None:
    """The difference of two traced tensors; None without recorded values."""
    bytes_a, bytes_b = inline_values(a), inline_values(b)
    return None if bytes_a is None or bytes_b is None else between(a, b, bytes_a, bytes_b)


def growth(a: EpochTrace, b: EpochTrace, steps: range = range(sys.maxsize)) -> list[Growth]:
    """The difference of the weights after each of `steps` with values on both sides."""
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
    """The divergence of two trainings; unknown attributes are None or empty.

    Attributes:
        a, b: names of the compared trainings.
        notes: remarks shown first.
        inputs: the digests of points and initial weights on both sides.
        epochs: number of epochs with digests on both sides.
        epoch: the first of them that differs.
        replays: the result of retraining both sides, or why it was skipped.
        transient: a side that does not reproduce its record, with the epoch.
        commands: commands that record the missing values.
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
        """Whether the trainings differ."""
        inputs_differ = self.inputs[0] != self.inputs[1]
        somewhere = self.epoch is not None or self.place is not None
        return inputs_differ or somewhere or bool(self.transient)


def first_epoch(a: Mapping[int, str], b: Mapping[int, str]) -> int | None:
    """The first epoch with different digests, among those with digests on both sides."""
    both = sorted(a.keys() & b)
    index = first_difference([a[epoch] for epoch in both], [b[epoch] for epoch in both])
    return None if index is None else both[index]
