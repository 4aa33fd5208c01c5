"""Comparisons with expected results: edge cases, probes, inputs, float64."""

import hashlib
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from xorbench.records.schema.line import Line, Sha256

Ulps = Annotated[float, Meta(ge=0)]


class Fact(Struct, frozen=True, kw_only=True):
    """One value compared with its golden value."""

    what: str
    expected: str
    actual: str


Details = Annotated[list[Fact], Meta(min_length=1)]


class ProbeRecord(Struct, frozen=True, kw_only=True):
    """The result of one exact probe on a device.

    Attributes:
        checked: the number of results that were compared.
        wrong: the mismatches.
        skipped: features that the device or its PyTorch lacks, with the reasons.
        unjudged: differences for which it is unknown whether healthy devices show them.
    """

    probe: str
    checked: int
    wrong: list[Fact] = []
    skipped: list[str] = []
    unjudged: list[Fact] = []


class Golden(Struct, frozen=True, kw_only=True):
    """The results of a device with known expected values: edge cases, training, exact probes."""

    arithmetic: Details
    universal: Details
    probes: list[ProbeRecord] = []


class GoldenInputs(Line, frozen=True, kw_only=True):
    """A line of `golden_inputs.jsonl`: the random inputs of a process, compared with NumPy's.

    `inputs_sha256` has the digests of the checked inputs, by dtype. `unseen` is the reason why a
    difference proves nothing here; it is empty if the values are known for this environment.
    """

    process: str
    seed: int
    inputs_sha256: dict[str, Sha256]
    details: Details
    unseen: str = ""


class Float64Reference(Line, frozen=True, kw_only=True):
    """A line of `float64.jsonl`: a training recomputed in float64.

    It holds for every training with the same inputs, `key` (the settings that change the result, by
    name) and `epochs_sha256` (over its epoch digests), in any process.

    Attributes:
        weights: the weights after each epoch of a training entirely in float64: little-endian
            float64 in hex, in the order of the `state_dict`.
        error_ulps: the largest error of a weight after each epoch. Each epoch in float64 starts
            from the recorded weights. In ulps at the largest weight; null if a recorded weight is
            not finite.
        control_ulps: the error of the same epoch in NumPy in float32, in float32's ulps; with
            operands truncated to TF32 or bfloat16 if the case uses these.
        losses: of the last step of each of these epochs in float64.
        predictions: of the last recorded weights, "1" or "0" per test point, "?" if undecided.
        test: the least and the greatest number of correct predictions; the labels are NumPy's.
        train: the same for the training points.
    """

    process: str
    case: str
    key: list[tuple[str, bool | int | float | str]]
    inputs_sha256: str
    epochs_sha256: str
    weights: list[str]
    error_ulps: list[Ulps | None]
    control_ulps: list[Ulps | None]
    losses: list[float | None]
    predictions: Annotated[str, Meta(pattern="^[01?]*$")]
    test: tuple[int, int]
    train: tuple[int, int]

    def __post_init__(self) -> None:
        for weights in self.weights:
            bytes.fromhex(weights)  # raises ValueError
        series: tuple[Sequence[object], ...] = (self.error_ulps, self.control_ulps, self.losses)
        if not self.weights or any(len(values) != len(self.weights) for values in series):
            raise ValueError("weights, errors and losses differ in length")


def epoch_digests_sha256(epoch_digests: Sequence[str]) -> str:
    """The digest of all epoch digests of a training."""
    return hashlib.sha256("\n".join(epoch_digests).encode()).hexdigest()
