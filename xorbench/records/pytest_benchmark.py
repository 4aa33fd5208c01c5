"""Converts runs to files of pytest-benchmark 5.3, and such files to records. Times in seconds."""

import statistics
from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct, convert

from xorbench.errors import BadFile
from xorbench.records.files import UNDECODABLE
from xorbench.records.schema.line import FolderInfo
from xorbench.records.schema.run import Run
from xorbench.records.schema.training import TrainingRecord
from xorbench.xor.matrix.case import ProcessConfig, variant_id
from xorbench.xor.matrix.recipe import Recipe

FORMAT_VERSION: Final = "5.3.0"  # of pytest-benchmark, which defines the field names
NO_COMMIT: Final = {
    "id": "unversioned",
    "time": None,
    "author_time": None,
    "dirty": False,
    "project": "xorbench",
    "branch": "(unknown)",
}


Seconds = Annotated[float, Meta(gt=0)]


NotNegative = Annotated[float, Meta(ge=0)]


Positive = Annotated[int, Meta(ge=1)]


class Stats(Struct, frozen=True, kw_only=True):
    """The statistics of one benchmark under pytest-benchmark's names, in seconds.

    `data` has one entry per round; None if the file was saved without them. `ops` is per second.
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
            raise ValueError(f"data has {len(self.data)} entries, but rounds is {self.rounds}")


class Benchmark(Struct, frozen=True, kw_only=True):
    """One benchmark of a file of pytest-benchmark; its statistics are not recomputed."""

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
        """The rounds of each process; a single process unless xorbench exported the file."""
        data = self.stats.data
        if data is None:
            return []
        counts = (self.extra_info.get("rounds_by_process") or {"": len(data)}).values()
        ends = accumulate(counts)
        return [data[end - count : end] for count, end in zip(counts, ends, strict=True)]


class Origin(Struct, frozen=True, kw_only=True):
    """The run from which a file was exported."""

    run: str
    version: str
    command: str
    started: str
    recipe: Recipe
    recipe_sha256: str
    faults: list[str]


class BenchmarkFile(Struct, frozen=True, kw_only=True):
    """A file of pytest-benchmark; `xorbench` is present if this program exported it."""

    machine_info: dict[str, Any]
    commit_info: dict[str, Any]
    benchmarks: list[Benchmark]
    datetime: str
    version: str
    xorbench: Origin | None = None


class ImportInfo(FolderInfo, frozen=True, kw_only=True):
    """`run.json` of an imported file: times and labels, without digests and calibration."""

    kind: str = "benchmark"
    anonymous: bool = False
    source: str
    imported: BenchmarkFile
    finished: str


def to_json(run: Run) -> str:
    """The finished trainings of a run as JSON: one benchmark per variant, one round per epoch."""
    return msgspec.json.format(msgspec.json.encode(exported(run)), indent=4).decode() + "\n"


def exported(run: Run) -> BenchmarkFile:
    """The finished trainings of a run; the rounds are the epochs, process by process."""
    info = run.info
    configs = {config.id: config for config in info.configs}
    by_variant: dict[str, list[TrainingRecord]] = {}
    for training in run.trainings:
        name = variant_id(training.case, configs.get(training.config, ProcessConfig()))
        by_variant.setdefault(name, []).append(training)
    planned = [variant_id(case, config) for config in info.configs for case in info.cases]
    return BenchmarkFile(
        machine_info=_machine_info(run),
        commit_info=dict(NO_COMMIT),
        benchmarks=[
            _benchmark(run, name, by_variant[name]) for name in planned if name in by_variant
        ],
        datetime=info.finished or info.started,
        version=FORMAT_VERSION,
        xorbench=Origin(
            run=info.id,
            version=info.xorbench_version,
            command=info.command,
            started=info.started,
            recipe=info.recipe,
            recipe_sha256=info.recipe_sha256,
            faults=info.faults,
        ),
    )


def _machine_info(run: Run) -> dict[str, Any]:
    """The host under pytest-benchmark's names, and the machine of the first process."""
    machine = run.machine
    return {
        "machine": machine.get("machine", ""),
        "system": machine.get("os", ""),
        "python_version": machine.get("python_version", ""),
        "cpu": {"brand_raw": run.info.host.get("cpu", "")},
        "xorbench": {k: v for k, v in machine.items() if k != "python_executable"},
    }


def _benchmark(run: Run, name: str, trainings: Sequence[TrainingRecord]) -> Benchmark:
    case = trainings[0].case
    stats = stats_of([seconds for training in trainings for seconds in training.epoch_s])
    worst = min(trainings, key=lambda training: training.test.correct).test
    digests = list(dict.fromkeys(training.weights_sha256 for training in trainings))
    samples = run.info.recipe.samples(case.batch_size, case.drop_last)
    return Benchmark(
        group=f"{case.device} batch {case.batch_size}",
        name=name,
        fullname=name,
        params={"case": case.id, "config": trainings[0].config},
        param=case.id,
        extra_info={
            "accuracy": f"{worst.correct}/{worst.total}",
            "weights_sha256": digests[0] if len(digests) == 1 else digests,
            "samples_per_s": samples / stats.median,
            "rounds_by_process": {t.process: len(t.epoch_s) for t in trainings},
        },
        options={},
        stats=stats,
    )


def stats_of(data: Sequence[float]) -> Stats:
    """The statistics of at least one round, computed as in pytest-benchmark."""
    ordered, rounds = sorted(data), len(data)
    mean, total = statistics.mean(data), sum(data)
    stddev = statistics.stdev(data) if rounds > 1 else 0.0
    q1, q3 = _quartiles(ordered)
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    within = [value for value in ordered if low <= value <= high] or ordered
    far = sum(not mean - stddev <= value <= mean + stddev for value in data)
    beyond = sum(not low <= value <= high for value in data)
    return Stats(
        min=ordered[0],
        max=ordered[-1],
        mean=mean,
        stddev=stddev,
        rounds=rounds,
        median=statistics.median(data),
        iqr=q3 - q1,
        q1=q1,
        q3=q3,
        iqr_outliers=beyond,
        stddev_outliers=far,
        outliers=f"{far};{beyond}",
        ld15iqr=within[0],
        hd15iqr=within[-1],
        ops=rounds / total,
        total=total,
        iterations=1,
        data=list(data),
    )


def _quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    """Quartiles by methods 2 (even) and 3 (odd) of https://en.wikipedia.org/wiki/Quartile."""
    rounds, n = len(ordered), len(ordered) // 4
    if rounds == 1:
        return ordered[0], ordered[0]
    if rounds % 2 == 0:
        half = rounds // 2
        return statistics.median(ordered[:half]), statistics.median(ordered[half:])
    if rounds % 4 == 1:
        q1 = 0.25 * ordered[n - 1] + 0.75 * ordered[n]
        return q1, 0.75 * ordered[3 * n] + 0.25 * ordered[3 * n + 1]
    q1 = 0.75 * ordered[n] + 0.25 * ordered[n + 1]
    return q1, 0.25 * ordered[3 * n + 1] + 0.75 * ordered[3 * n + 2]


def from_json(content: bytes, place: str) -> BenchmarkFile:
    """Parse the file; raises `BadFile`, naming the place, for any other content."""
    try:
        file = msgspec.json.decode(content, type=BenchmarkFile)
    except UNDECODABLE as error:
        hint = "a file that pytest --benchmark-json or --benchmark-save wrote"
        raise BadFile(f"{place}: not a file of pytest-benchmark: {error}", hint) from None
    names = [benchmark.fullname for benchmark in file.benchmarks]
    if not names:
        raise BadFile(f"{place}: holds no benchmark", "it was saved with --benchmark-disable?")
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise BadFile(f"{place}: damaged: two benchmarks named {duplicate!r}")
    return file
