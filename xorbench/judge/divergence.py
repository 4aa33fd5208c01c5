"""Where two trainings diverge: epoch, step, tensor, element, and how the difference grows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from xorbench.judge.ulps import ranks
from xorbench.observe.records import TensorRecord
from xorbench.observe.trace import TraceEpoch
from xorbench.plan.digest import FORWARD

INTEGERS: Final = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"}  # a float's bits, by its bytes
WIDTHS: Final = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8, "int64": 8, "bool": 1}

StepValues = Mapping[str, TensorRecord]


@dataclass(frozen=True, slots=True)
class TracePlace:
    """The first step and tensor that differ; no tensor where one side has no such step."""

    epoch: int
    step: int
    tensor: str | None


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a tensor on both sides: values as texts, bit patterns, distance in ulps.

    The distance is None where one of them is not a number, the difference for whole numbers.
    """

    index: list[int]
    a: str
    b: str
    a_bits: str
    b_bits: str
    ulps: int | None


@dataclass(frozen=True, slots=True)
class Difference:
    """How two tensors differ: the first element that does, and how many of them do."""

    shape_a: list[int]
    shape_b: list[int]
    differing: int
    largest_ulps: int | None
    first: Element | None


@dataclass(frozen=True, slots=True)
class Growth:
    """What of the difference is in the weights after a step."""

    step: int
    differing: int
    elements: int
    largest_ulps: int | None


def first_place(a: TraceEpoch, b: TraceEpoch, tensors: Sequence[str]) -> TracePlace | None:
    """The first step and tensor at which two traces of an epoch differ."""
    for step, (one, other) in enumerate(zip(a.steps, b.steps, strict=False)):
        for name, x, y in zip(tensors, one, other, strict=True):
            if x != y:
                return TracePlace(a.epoch, step, name)
    if len(a.steps) != len(b.steps):
        return TracePlace(a.epoch, min(len(a.steps), len(b.steps)), None)
    return None


def compare(a: TensorRecord, b: TensorRecord) -> Difference:
    """Two tensors element by element; of different shapes or types nothing is compared."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return Difference(a.shape, b.shape, 0, None, None)
    bits_a, bits_b = _bits(a), _bits(b)
    at = np.flatnonzero(bits_a != bits_b)
    if not at.size:
        return Difference(a.shape, b.shape, 0, 0, None)
    distances = [_distance(a.dtype, int(bits_a[i]), int(bits_b[i])) for i in at]
    known = [distance for distance in distances if distance is not None]
    first = _element(a, b, int(at[0]), distances[0])
    return Difference(a.shape, b.shape, len(at), max(known, default=None), first)


def growth(a: Mapping[str, StepValues], b: Mapping[str, StepValues]) -> list[Growth]:
    """For each step that both have values of: how far the weights then are apart."""
    return [_grown(step, a[str(step)], b[str(step)]) for step in sorted(map(int, a.keys() & b))]


def _grown(step: int, a: StepValues, b: StepValues) -> Growth:
    weights = [n for n in a if n in b and n not in FORWARD and not n.startswith("grad ")]
    found = [compare(a[name], b[name]) for name in weights]
    sizes = sum(int(np.prod(a[name].shape)) for name in weights)
    known = [one.largest_ulps for one in found if one.largest_ulps is not None]
    return Growth(step, sum(one.differing for one in found), sizes, max(known, default=None))


def _bits(record: TensorRecord) -> "np.ndarray[Any, np.dtype[Any]]":
    return np.frombuffer(bytes.fromhex(record.hex), INTEGERS[WIDTHS[record.dtype]])


def _element(a: TensorRecord, b: TensorRecord, at: int, ulps: int | None) -> Element:
    bits_a, bits_b = int(_bits(a)[at]), int(_bits(b)[at])
    digits = 2 * WIDTHS[a.dtype]
    index = [int(i) for i in np.unravel_index(at, a.shape)] if a.shape else []
    shown = (f"0x{bits_a:0{digits}x}", f"0x{bits_b:0{digits}x}")
    return Element(index, _text(a.dtype, bits_a), _text(b.dtype, bits_b), *shown, ulps)


def _text(dtype: str, bits: int) -> str:
    value = _value(dtype, bits)
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _value(dtype: str, bits: int) -> float | int:
    """The number that a bit pattern stands for."""
    if dtype == "bfloat16":
        dtype, bits = "float32", bits << 16
    whole = np.array([bits], INTEGERS[WIDTHS[dtype]]).view(np.dtype(dtype).newbyteorder("<"))[0]
    value: float | int = whole.item()
    return value


def _distance(dtype: str, a: int, b: int) -> int | None:
    """How many numbers of this type lie between two bit patterns, one of them included."""
    if "float" not in dtype:
        return abs(int(_value(dtype, a)) - int(_value(dtype, b)))
    if math.isnan(_value(dtype, a)) or math.isnan(_value(dtype, b)):
        return None
    one, other = ranks(np.array([a, b], INTEGERS[WIDTHS[dtype]])).tolist()
    return int(abs(one - other))


@dataclass(frozen=True, slots=True)
class Divergence:
    """All that is known of where two trainings diverge; what is not known is None or empty.

    Attributes:
        a, b: what was compared, as one would name it again.
        notes: what should be known before the rest.
        inputs: the digests of points and initial weights on both sides.
        epochs: how many epochs both sides have digests of.
        epoch: the first of them that differs.
        replays: what training both sides again came to, or why it was not done.
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
    return next((epoch for epoch in sorted(a.keys() & b) if a[epoch] != b[epoch]), None)
