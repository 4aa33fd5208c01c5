"""What was compared with the one right answer: edge cases, probes, inputs, double precision."""

import hashlib
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from xorbench.records.schema.line import Line, Sha256

Ulps = Annotated[float, Meta(ge=0)]


class Fact(Struct, frozen=True, kw_only=True):
    """One thing compared with its golden value."""

    what: str
    expected: str
    actual: str


Facts = Annotated[list[Fact], Meta(min_length=1)]


class ProbeRecord(Struct, frozen=True, kw_only=True):
    """What one exact probe found on a device: how many results it compared, and those that differ.

    Attributes:
        skipped: what the device or its PyTorch lacks, and why.
        unjudged: differences of which nobody has measured whether sound devices show them.
    """

    probe: str
    checked: int
    wrong: list[Fact] = []
    skipped: list[str] = []
    unjudged: list[Fact] = []


class Golden(Struct, frozen=True, kw_only=True):
    """What a device gave where the right answer is known: edge cases, training, exact probes."""

    arithmetic: Facts
    universal: Facts
    probes: list[ProbeRecord] = []


class GoldenInputs(Line, frozen=True, kw_only=True):
    """A line of `golden_inputs.jsonl`: what a process draws for a seed, against NumPy's reading.

    `inputs_sha256` are the digests of the inputs that were checked, by dtype; `unseen` says why a
    difference proves nothing here, empty where the values have been seen in this environment.
    """

    process: str
    seed: int
    inputs_sha256: dict[str, Sha256]
    facts: Facts
    unseen: str = ""


class Float64Reference(Line, frozen=True, kw_only=True):
    """A line of `float64.jsonl`: what a training comes to in double precision.

    It holds for every training of the same inputs, `key` (the settings that move it, by name) and
    `epochs_sha256` (over its epoch digests), whichever process made the line.

    Attributes:
        weights: after each epoch of the training alone in float64, from its first epoch on:
            little-endian float64 in hex, in the order of the `state_dict`.
        error_ulps: largest error of a weight after each epoch, where the epoch in float64 starts
            from the weights that were recorded before it; in ulps at the largest weight, null where
            a recorded weight is not finite.
        control_ulps: the same of that epoch in NumPy in float32, in float32's ulps; with operands
            cut as TF32 or bfloat16 cut them, where the case takes those.
        losses: of the last step of each of these epochs in float64.
        predictions: of the last recorded weights, "1" or "0" a test point, "?" where they are too
            close to say.
        test: how many of these are right at least, and at most; the labels are NumPy's.
        train: the same of the training points.
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
            bytes.fromhex(weights)  # raises ValueError for anything else
        series: tuple[Sequence[object], ...] = (self.error_ulps, self.control_ulps, self.losses)
        if not self.weights or any(len(values) != len(self.weights) for values in series):
            raise ValueError("weights, errors and losses are not of one length")


def epoch_digests_sha256(epoch_digests: Sequence[str]) -> str:
    """One digest of all epoch digests of a training."""
    return hashlib.sha256("\n".join(epoch_digests).encode()).hexdigest()
