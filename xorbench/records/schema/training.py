"""What was observed of a training. Times are seconds, sizes bytes."""

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

    `weights`, of a small network, are those after the epoch: hex, in the order of the `state_dict`.
    Seconds: `epoch_s` by the process's clock, which then stood at `clock_s`; `waited_s` and `at_s`
    by the orchestrator's: from its request to the answer, and when the answer came.
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
    """One line of `calibrations.jsonl`: one timing of a calibration workload, as it was made.

    `cold` is the first of a process's turn, which warms the caches and stands beside no epoch; the
    other fields are those of an epoch.
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
            raise ValueError(f"{self.correct} of {self.total} is no score")


class WeightRecord(Struct, frozen=True, kw_only=True):
    """One weight of a trained network: little-endian bytes in hex, row-major."""

    dtype: Literal["float32", "float64"]
    shape: list[int]
    hex: str

    def __post_init__(self) -> None:
        size = len(bytes.fromhex(self.hex))  # raises ValueError for anything else
        if size != prod(self.shape) * (8 if self.dtype == "float64" else 4):
            raise ValueError(f"{size} bytes are no {self.dtype} of shape {self.shape}")


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
    accelerator_grown_bytes: int | None = None  # held after the last epoch beyond the first
    weights: dict[str, WeightRecord] | None
    startup_s: float | None = (
        None  # what the engine took to be ready, the first time in its process
    )
    golden: list[Fact] = []  # of the universal training


class TrainingRecord(TrainingEnd, frozen=True, kw_only=True):
    """A finished training: its end, and what the lines of its epochs say.

    `calibration_s` is, of each epoch, the median of the last calibrations before it.
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
    """A case that cannot be run here, for want of its device, or of what its engine needs."""

    case: Case
    skipped: str
    lacks: Literal["device", "engine"] = "device"


class Failure(Line, frozen=True, kw_only=True):
    """A case that was lost in one slot, and why."""

    case: Case
    process: str
    config: str
    epochs: int
    failed: str
    check: str = "completion"  # the check that fails with it


class Unfinished(Struct, frozen=True, kw_only=True):
    """A case that a run, stopped before its end, has not brought to its own."""

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
            raise ValueError("x0, x1 and labels are not of one length")
