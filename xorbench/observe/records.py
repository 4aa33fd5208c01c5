"""The records of a run, frozen and versioned. Times are seconds, sizes bytes."""

import hashlib
from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, convert

from xorbench.plan.case import Case, ProcessConfig
from xorbench.plan.recipe import Recipe
from xorbench.plan.sweep import SweepPlan

SCHEMA_VERSION: Final = 3
Outcome = Literal["pass", "fail", "inconclusive", "skipped"]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Fact(Struct, frozen=True, kw_only=True):
    """One thing compared with its golden value."""

    what: str
    expected: str
    actual: str


Facts = Annotated[list[Fact], Meta(min_length=1)]
WaitSeconds = Annotated[float, Meta(ge=0, lt=1e9)]
Ulps = Annotated[float, Meta(ge=0)]


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


class ProcessRecord(Struct, frozen=True, kw_only=True):
    """One process: what it ran under, how large it grew, and what it died of, if it did.

    Its id begins with its slot, of which each config has as many as it has processes; `index`
    counts them under the config, from 0. A replacement for a dead process of slot `p0` is `p0.1`.
    """

    id: str
    config: ProcessConfig
    index: int
    machine: dict[str, Any]
    golden: dict[str, Golden] = {}  # by device
    # of each calibration workload: the least wait beyond what it was said to take, and that time
    calibration_gaps_s: dict[str, tuple[float, float]] = {}
    opened_rss_bytes: int | None = None  # the peak once every training stood open
    peak_rss_bytes: int | None = None
    died: str | None = None


class RunInfo(Struct, frozen=True, kw_only=True):
    """`run.json`: what was asked for, on what, and whether it came to its end."""

    schema_version: int = SCHEMA_VERSION
    kind: str = "run"
    xorbench_version: str
    id: str
    name: str | None = None
    command: str
    started: str
    recipe: Recipe
    recipe_sha256: str
    cases: list[Case]
    configs: list[ProcessConfig]
    processes_per_config: int
    warmup_epochs: int
    timeout_s: float
    schedule_seed: int
    faults: list[str]
    anonymous: bool = False
    save_weights: bool = False
    require_devices: bool = False
    stress: str | None = None
    calibration_version: int
    host: dict[str, Any]
    processes: list[ProcessRecord] = []
    finished: str | None = None


class Line(Struct, frozen=True, kw_only=True):
    """One line of a file of lines; `run` is the id of the run that it belongs to."""

    run: str = ""


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
    calibration_s: float | None
    warmup: bool = False
    weights: str | None = None
    clock_s: float
    waited_s: WaitSeconds
    at_s: WaitSeconds


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
        for one in self.weights:
            bytes.fromhex(one)  # raises ValueError for anything else
        series: tuple[Sequence[object], ...] = (self.error_ulps, self.control_ulps, self.losses)
        if not self.weights or any(len(one) != len(self.weights) for one in series):
            raise ValueError("weights, errors and losses are not of one length")


def epoch_digests_sha256(epoch_digests: Sequence[str]) -> str:
    """One digest of all epoch digests of a training."""
    return hashlib.sha256("\n".join(epoch_digests).encode()).hexdigest()


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


class AcceleratorState(Struct, frozen=True, kw_only=True):
    """An accelerator at one moment: clocks in MHz, temperature in °C, why it runs slower."""

    clock_mhz: int
    highest_clock_mhz: int
    temperature_c: int
    throttled: list[str]


class SystemSample(Line, frozen=True, kw_only=True):
    """One line of `system_samples.jsonl`: the machine over about a second of the run.

    `others_percent` is the share of all processors' time that went to other programs, null at the
    first sample; `steal_percent` the share that the hypervisor gave to other machines.
    """

    at_s: float
    load_average_1min: float
    others_percent: float | None
    steal_percent: float
    accelerators: list[AcceleratorState] = []


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
        bytes.fromhex(self.hex)  # raises ValueError for anything else


class TrainingRecord(Line, frozen=True, kw_only=True):
    """A finished training of one case in one slot: a line of `results.jsonl`."""

    case: Case
    process: str
    config: str
    epoch_s: list[float]
    calibration_s: list[float | None]
    losses: list[float | None]
    epoch_digests: list[str]
    warmup_epoch_s: list[float]
    warmup_epoch_digests: list[str]
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

    def __post_init__(self) -> None:
        series: tuple[Sequence[object], ...] = (self.epoch_s, self.calibration_s, self.losses)
        if not self.epoch_digests or any(len(one) != len(self.epoch_digests) for one in series):
            raise ValueError(
                "epoch_s, calibration_s, losses and epoch_digests are not of one length"
            )
        if any(time is not None and time <= 0 for time in (*self.epoch_s, *self.calibration_s)):
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


class Verdict(Struct, frozen=True, kw_only=True):
    """What one check says of one subject: a variant, a process, a device, a seed."""

    check: str
    subject: str
    outcome: Outcome
    expected: str
    actual: str
    hint: str = ""


class BoundaryPoints(Struct, frozen=True, kw_only=True):
    """`boundary_points.json`: the first test points of a seed, for the decision boundary."""

    seed: int
    x0: list[float]
    x1: list[float]
    labels: list[int]


class Run(Struct, frozen=True, kw_only=True):
    """All of a run as it was read back from its folder."""

    info: RunInfo
    epochs: list[EpochLine]
    trainings: list[TrainingRecord]
    skips: list[Skip]
    failures: list[Failure]
    unfinished: list[Unfinished]
    float64: list[Float64Reference] = []
    golden_inputs: list[GoldenInputs] = []
    points: BoundaryPoints | None = None
    system_samples: list[SystemSample] = []


class KnownAnswer(Struct, frozen=True, kw_only=True):
    """The golden outcome of one seed."""

    seed: int
    sha256: Sha256
    correct: int


class KnownCombined(Struct, frozen=True, kw_only=True):
    """The golden outcome of seeds 0 to `seeds - 1` together."""

    seeds: int
    sha256: Sha256
    all_right: int


class Known(Struct, frozen=True, kw_only=True):
    """What is known beforehand of one batch size of a sweep: its golden answers, if any."""

    batch_size: int
    answers: list[KnownAnswer] = []
    combined: KnownCombined | None = None


class SweepProcess(Struct, frozen=True, kw_only=True):
    """One process of a sweep: what trained in it, how long it took to start."""

    id: str
    backend: str
    device: str
    threads: int
    import_s: float
    compile_s: float
    machine: dict[str, Any]
    note: str = ""
    peak_rss_bytes: int | None = None
    died: str | None = None


class SweepInfo(Struct, frozen=True, kw_only=True):
    """`run.json` of a sweep: what was asked for, on what, and whether it came to its end."""

    schema_version: int = SCHEMA_VERSION
    kind: str = "sweep"
    xorbench_version: str
    id: str
    name: str | None = None
    command: str
    started: str
    plan: SweepPlan
    recipe_sha256: str
    backend: str
    device: str
    threads: int | None
    timeout_s: float
    anonymous: bool = False
    host: dict[str, Any]
    known: list[Known]
    processes: list[SweepProcess] = []
    stopped: str | None = None
    finished: str | None = None


class Chunk(Line, frozen=True, kw_only=True):
    """One line of `chunks.jsonl`: consecutive seeds, trained; a list has one entry a seed.

    Attributes:
        scores: right answers on the test points after the last epoch.
        first_epochs: the first epoch after which all were right; null if there is none.
        lapses: how often they were all right after an epoch and not after the next.
        right_after: after each epoch, how many seeds had them all right.
        sha256s: the digests of the final weights.
        chunk_s: seconds for all of it, digests included.
    """

    process: str
    batch_size: int
    first_seed: int
    count: int
    chunk_s: float
    scores: list[int]
    first_epochs: list[int | None]
    lapses: list[int]
    right_after: list[int]
    sha256s: list[Sha256]

    def __post_init__(self) -> None:
        for name in ("scores", "first_epochs", "lapses", "sha256s"):
            if len(getattr(self, name)) != self.count:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, not {self.count}")


class Example(Struct, frozen=True, kw_only=True):
    """One trained model as a picture: test points, and its output over the plane they lie in.

    `logits` has one row for each step of x1 from low to high, each with one value a step of x0.
    """

    batch_size: int
    seed: int
    correct: int
    total: int
    sha256: Sha256
    x0: list[float]
    x1: list[float]
    labels: list[int]
    right: list[bool]
    low: float
    high: float
    logits: list[list[float]]


class LessonRecord(Struct, frozen=True, kw_only=True):
    """What one lesson came to."""

    lesson: str
    statement: str
    answer: Literal["holds", "does not hold", "cannot be tried here"]
    measured: str


class LessonsInfo(Struct, frozen=True, kw_only=True):
    """`run.json` of the lessons: on what they were tried, and all that was found."""

    schema_version: int = SCHEMA_VERSION
    kind: str = "lessons"
    xorbench_version: str
    id: str
    name: str | None = None
    command: str
    started: str
    anonymous: bool = False
    host: dict[str, Any]
    machine: dict[str, Any]
    findings: list[LessonRecord]
    stopped: str | None = None
    finished: str


Seconds = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]


class Stats(Struct, frozen=True, kw_only=True):
    """The statistics of one benchmark under pytest-benchmark's names, in seconds.

    `data` has one entry a round; None where the file was saved without them. `ops` are a second.
    """

    min: Seconds
    max: Seconds
    mean: Seconds
    stddev: NotNegative
    rounds: Positive
    median: Seconds
    iqr: NotNegative
    q1: Seconds
    q3: Seconds
    iqr_outliers: int
    stddev_outliers: int
    outliers: str
    ld15iqr: Seconds
    hd15iqr: Seconds
    ops: Seconds
    total: Seconds
    iterations: Positive
    data: list[Seconds] | None = None

    def __post_init__(self) -> None:
        if self.data is not None and len(self.data) != self.rounds:
            raise ValueError(f"data has {len(self.data)} entries, not {self.rounds} as rounds says")


class Benchmark(Struct, frozen=True, kw_only=True):
    """One benchmark of a file of pytest-benchmark; what the file says, taken on trust."""

    group: str | None
    name: str
    fullname: str
    params: dict[str, Any] | None
    param: str | None
    extra_info: dict[str, Any]
    options: dict[str, Any]
    stats: Stats

    def __post_init__(self) -> None:
        by_process = self.extra_info.get("rounds_by_process")
        if by_process is None or self.stats.data is None:
            return
        if sum(convert(by_process, dict[str, Positive]).values()) != self.stats.rounds:
            raise ValueError(f"rounds_by_process does not add up to the {self.stats.rounds} rounds")

    @property
    def processes(self) -> list[list[float]]:
        """The rounds by the process that they ran in: one, unless an export of ours says more."""
        data = self.stats.data
        if data is None:
            return []
        counts = self.extra_info.get("rounds_by_process", {"": len(data)}).values()
        ends = accumulate(counts)
        return [data[end - count : end] for count, end in zip(counts, ends, strict=True)]


class Origin(Struct, frozen=True, kw_only=True):
    """The run that an exported file was made from."""

    run: str
    version: str
    command: str
    started: str
    recipe: Recipe
    recipe_sha256: str
    faults: list[str]


class BenchmarkFile(Struct, frozen=True, kw_only=True):
    """A file of pytest-benchmark; `xorbench` is there where this program exported it."""

    machine_info: dict[str, Any]
    commit_info: dict[str, Any]
    benchmarks: list[Benchmark]
    datetime: str
    version: str
    xorbench: Origin | None = None


class ImportInfo(Struct, frozen=True, kw_only=True):
    """`run.json` of an imported file: times and claims, without digests, calibration or weights."""

    schema_version: int = SCHEMA_VERSION
    kind: str = "benchmark"
    xorbench_version: str
    id: str
    name: str | None = None
    command: str
    started: str
    anonymous: bool = False
    source: str
    imported: BenchmarkFile
    finished: str


def slot_of(process: str) -> str:
    """The slot that a process filled: `p0` of `p0.1`."""
    return process.partition(".")[0]


def process_order(process: str) -> tuple[int, ...]:
    """Sorts processes as they are numbered: `p2`, `p2.1`, `p10`."""
    return tuple(int(number) for number in process.removeprefix("p").split("."))


def slots(
    configs: Sequence[ProcessConfig], processes_per_config: int
) -> list[tuple[str, ProcessConfig, int]]:
    """Every slot of a run: its name, its config, and the index of its process under the config."""
    pairs = [(config, index) for index in range(processes_per_config) for config in configs]
    return [(f"p{number}", config, index) for number, (config, index) in enumerate(pairs)]
