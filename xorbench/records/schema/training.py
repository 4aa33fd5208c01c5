"""The observations of a training. Times are in seconds, sizes in bytes."""

from math import prod
from typing import Annotated, Literal

from msgspec import Meta, Struct

from xorbench.records.schema.golden import Fact
from xorbench.records.schema.line import Line
from xorbench.xor.matrix.case import Case

WaitSeconds = Annotated[float, Meta(ge=0, lt=1e9)]
PositiveSeconds = Annotated[float, Meta(gt=0, lt=1e9)]


class EpochLine(Line, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `epochs.jsonl`. A loss that is not finite is null.

    `weights` are the weights of a small network after the epoch: hex, in the order of the
    `state_dict`. The process's clock gives `epoch_s`, and its reading `clock_s` at the end of the
    epoch. The orchestrator's clock gives `waited_s`, from the request to the answer, and `at_s`,
    the time of the answer.
    """

    process: str
    case: str
    epoch: int
    epoch_s: float
    loss: float | None
    digest: str
    warmup: bool = False
    weights: str | None = None
    clock_s: float
    waited_s: WaitSeconds
    at_s: WaitSeconds


class CalibrationLine(Line, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `calibrations.jsonl`: one timing of a calibration workload.

    `cold` marks the first timing of a process's turn, which warms the caches and has no matching
    epoch. The other fields are as in `EpochLine`.
    """

    process: str
    device: str
    kind: str
    calibration_s: PositiveSeconds
    cold: bool = False
    waited_s: WaitSeconds
    at_s: WaitSeconds


class Count(Struct, frozen=True, kw_only=True):
    """A score as two integers."""

    correct: int
    total: int
    not_finite: int = 0  # outputs that are infinite or not a number

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.total:
            raise ValueError(f"{self.correct} of {self.total} is not a valid score")


class WeightRecord(Struct, frozen=True, kw_only=True):
    """One weight of a trained network: little-endian bytes in hex, row-major."""

    dtype: Literal["float32", "float64"]
    shape: list[int]
    hex: str

    def __post_init__(self) -> None:
        size = len(bytes.fromhex(self.hex))  # raises ValueError
        if size != prod(self.shape) * (8 if self.dtype == "float64" else 4):
            raise ValueError(f"{size} bytes do not fit {self.dtype} of shape {self.shape}")


class TrainingEnd(Line, frozen=True, kw_only=True):
    """The end of a training of one case in one slot: a line of `results.jsonl`."""

    case: Case
    process: str
    config: str
    inputs_sha256: str
    weights_sha256: str
    train: Count
    test: Count
    predictions: str
    reloaded_sha256: str
    reloaded_test: Count
    reloaded_predictions: str
    accelerator_peak_bytes: int | None
    accelerator_grown_bytes: int | None = None  # growth from the first to the last epoch
    weights: dict[str, WeightRecord] | None
    startup_s: float | None = None  # of the engine, at its first set-up in the process
    golden: list[Fact] = []  # of the universal training


class TrainingRecord(TrainingEnd, frozen=True, kw_only=True):
    """A finished training: its end, and the values of its epochs.

    `calibration_s` has for each epoch the median of the last calibrations before it.
    """

    epoch_s: list[float]
    calibration_s: list[float | None]
    losses: list[float | None]
    epoch_digests: list[str]
    warmup_epoch_s: list[float]
    warmup_epoch_digests: list[str]

    def __post_init__(self) -> None:
        if any(seconds <= 0 for seconds in self.epoch_s):
            raise ValueError("a time is not above zero")


class Skip(Line, frozen=True, kw_only=True):
    """A case that cannot be run here: its device, or a requirement of its engine, is missing."""

    case: Case
    skipped: str
    lacks: Literal["device", "engine"] = "device"


class Failure(Line, frozen=True, kw_only=True):
    """A case that failed in one slot, and the reason."""

    case: Case
    process: str
    config: str
    epochs: int
    failed: str
    check: str = "completion"  # the check that fails


class Unfinished(Struct, frozen=True, kw_only=True):
    """A case that is unfinished because its run was stopped."""

    case: Case
    slot: str
    config: str
    epochs: int


class BoundaryPoints(Struct, frozen=True, kw_only=True):
    """`boundary_points.json`: the first test points of a seed, for the decision boundary."""

    seed: int
    x0: list[float]
    x1: list[float]
    labels: list[int]

    def __post_init__(self) -> None:
        if not len(self.x0) == len(self.x1) == len(self.labels):
            raise ValueError("x0, x1 and labels differ in length")
