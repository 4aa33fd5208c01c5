"""The file of a trace: JSON lines, first the head, then one per step. Versioned.

docs/trace-format.md describes the format.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from math import prod
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from xorbench.errors import BadFile, why
from xorbench.records.files import UNDECODABLE, decoded, is_file, last_line, place, write_whole
from xorbench.records.redaction import without_names
from xorbench.records.tensor_bytes import WIDTHS
from xorbench.xor.matrix.case import Case, ProcessConfig
from xorbench.xor.matrix.recipe import Recipe

SCHEMA_VERSION: Final = 3
PRESENCE: Final = "presence.jsonl"  # the events of the interpreters of a run
DIGEST: Final = "words32-splitmix64"
CACHE_BYTES: Final = 16 << 20  # traces up to this size stay in memory, at about 6 times the size
LineKind = TypeVar("LineKind", bound=Struct)
CachedItem = TypeVar("CachedItem")


class ProcessInfo(Struct, frozen=True, kw_only=True):
    """The recorded process: its arguments and its identity among several.

    `name` is set if `multiprocessing` started the process. A process of a `pool` takes jobs in no
    fixed order.
    """

    argv: list[str]
    name: str | None = None
    pool: bool = False
    rank: str | None
    world_size: int | None = None
    restart: str | None
    started_ns: int


class TracedTraining(Struct, frozen=True, kw_only=True):
    """The traced case: its recipe and the injected faults.

    `index` is the index of the process in its config, which decides its faults.
    """

    xorbench_version: str
    case: Case
    config: ProcessConfig
    recipe: Recipe
    faults: list[str]
    index: int = 0
    inputs_sha256: str


class TraceHead(Struct, frozen=True, kw_only=True):
    """The first line of a trace: the process or case, the machine and the options.

    Attributes:
        producer: `recorder` for a user's program, `xorbench` for a case.
        digest: the algorithm of the digests.
        sketch: the algorithm of the sketches; None without sketches.
        detail: the first and the last step with detailed recording.
        process: the program's process; None for a case.
        generators: the state of each generator after the import of PyTorch.
        training: the case; None for a user's program.
    """

    schema_version: int = SCHEMA_VERSION
    kind: str = "trace"
    producer: Literal["recorder", "xorbench"]
    digest: str
    sketch: str | None = None
    level: str
    detail: tuple[int, int] | None = None
    process: ProcessInfo | None = None
    machine: dict[str, Any]
    environment: dict[str, str] = {}
    generators: dict[str, str] = {}
    training: TracedTraining | None = None


class More(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The details of an event; docs/trace-format.md describes each field."""

    name: str = ""
    where: str = ""
    of: str | None = None
    inputs: str = ""
    random: bool = False
    backward: bool = False
    not_recorded: str = ""
    shape: list[int] | None = None
    dtype: str = ""
    at: int | None = None
    hex: str | None = None
    value: float | None = None
    made: str = ""
    uninitialized: str = ""
    unseeded: bool = False
    rows: list[str] = []
    sketch: str = ""
    shard: bool = False


class TraceEvent(Struct, frozen=True, array_like=True):
    """An event of a step: its kind, its identity and its digest."""

    kind: str
    identity: str
    digest: str | None
    more: More = More()


class TraceStep(Struct, frozen=True, kw_only=True):
    """A step: events in program order, and new `names` and `hyperparameters`.

    In the trace of a case, steps are counted within their epoch. `events_left_out` is the number of
    events not recorded.
    """

    step: int
    epoch: int | None = None
    at_s: float
    took_s: float
    recorder_s: float
    events: list[TraceEvent] = []
    names: dict[str, tuple[str, list[int], str]] = {}
    hyperparameters: dict[str, list[dict[str, Any]]] = {}
    replicated: dict[str, tuple[str, list[int], list[int], str]] = {}
    errors: list[str] = []
    events_left_out: int = 0


class EpochEnd(Struct, frozen=True, kw_only=True):
    """The end of an epoch of a case: its loss, and the digest of the weights."""

    epoch_end: int
    loss: float | None
    digest: str


class Unseen(Struct, frozen=True, kw_only=True):
    """Events of a program that its record does not contain.

    Attributes:
        thread_overlaps: how often threads were seen to train at the same time.
        thread_followers: threads that began a training after the end of the thread before.
        hooks_removed: whether the program removed the recorder's hooks.
        evaluations: calls of models in evaluation mode after the last step.
        models: classes of untrained models that were called, averaged or alive at the end.
        tensors: tensors with a gradient in no module and no optimizer.
        updates: steps that ended with an update outside `torch.optim`.
    """

    thread_overlaps: int = 0
    thread_followers: int = 0
    hooks_removed: bool = False
    evaluations: int = 0
    models: list[str] = []
    tensors: int = 0
    updates: int = 0


class TracedSource(Struct, frozen=True, kw_only=True):
    """A place of the program that may give different values in two runs.

    Attributes:
        kind: `seeded` for a seed that was set, else a kind of `recorder.sources`.
        name: the call; for a seed that was set, the generator.
        where: the file and the line.
        within: `seed` or `condition` if the value is used as one.
        generator: the global generator of a seed or a draw in the source.
        digest: the digest of the seed.
        step: the step before which the seed was set.
    """

    kind: str
    name: str
    where: str
    within: str = ""
    generator: str = ""
    digest: str = ""
    step: int = 0


class TraceEnd(Struct, frozen=True, kw_only=True):
    """The end of a record: the number of steps, pending events and final parameters.

    `left_out` is the number of steps not recorded, `events_left_out` of events. `sources` is
    present with detailed recording.
    """

    end: bool
    steps: int
    complete: bool
    events: list[TraceEvent] = []
    final: list[TraceEvent] = []
    unseen: Unseen = Unseen()
    sources: list[TracedSource] = []
    unknown_rounding: list[str] = []
    left_out: int = 0
    names: dict[str, tuple[str, list[int], str]] = {}
    hyperparameters: dict[str, list[dict[str, Any]]] = {}
    errors: list[str] = []
    events_left_out: int = 0


ProgramLine: TypeAlias = TraceStep | TraceEnd
TraceLine: TypeAlias = ProgramLine | EpochEnd


class PresenceLine(Struct, frozen=True, kw_only=True):
    """A line of `presence.jsonl`: an event of an interpreter that loaded the recorder.

    `path` is a file written outside the working folder; `raw` has its bytes in hex if the name is
    not UTF-8. A process that died in a save has the number of complete `step`s, that of the older
    checkpoint, and whether the older one still has all its files.
    """

    pid: int
    event: str
    parent: int = 0
    argv: list[str] = []
    path: str = ""
    version: str = ""
    why: str = ""
    command: str = ""
    raw: str = ""
    step: int = 0
    older_step: int = 0
    older_is_complete: bool = False

    @property
    def file(self) -> Path:
        """The written file, also if its name is not UTF-8."""
        return Path(os.fsdecode(bytes.fromhex(self.raw)) if self.raw else self.path)


class ReadOnce(Generic[CachedItem]):
    """The items of an iterator, read once and iterated any number of times."""

    def __init__(self, source: Iterator[CachedItem]) -> None:
        self._source = source
        self._items: list[CachedItem] = []

    def __iter__(self) -> Iterator[CachedItem]:
        for index in count():
            if index == len(self._items):
                try:
                    self._items.append(next(self._source))
                except StopIteration:
                    return
            yield self._items[index]


@dataclass(frozen=True)
class TraceFile:
    """A trace of one process; each line is decoded once, on first use.

    A file above `CACHE_BYTES` is decoded again for each iteration, which bounds the memory.
    """

    path: Path
    head: TraceHead

    @property
    def pid(self) -> int | None:
        """The id of the recorded process, from the end of the file name."""
        number = self.path.stem.rpartition("-")[2]
        return int(number) if number.isdecimal() else None

    @cached_property
    def step_count(self) -> int:
        """The number of steps."""
        return sum(1 for _ in self.steps())

    def lines(self) -> Iterator[ProgramLine]:
        """Each step and the end; raises `BadFile`, naming the line, for a damaged line."""
        return (line for line in self.all_lines() if not isinstance(line, EpochEnd))

    def all_lines(self) -> Iterator[TraceLine]:
        """Each step, the ends of epochs, and the end."""
        return iter(self._cached_lines or self._decoded_lines())

    @cached_property
    def _cached_lines(self) -> ReadOnce[TraceLine] | None:
        small = self.path.stat().st_size <= CACHE_BYTES
        return ReadOnce(self._decoded_lines()) if small else None

    def _decoded_lines(self) -> Iterator[TraceLine]:
        expected = (-1, 0)
        with self.path.open("rb") as file:
            file.readline()
            for number, line in enumerate(file, 2):
                if not line.endswith(b"\n"):
                    return  # the process was killed while it wrote
                if line.startswith(b'{"end"'):
                    yield self._end_of(number, line)
                elif line.startswith(b'{"epoch_end"'):
                    yield _decoded(self.path, number, line, EpochEnd)
                else:
                    step = _decoded(self.path, number, line, TraceStep)
                    place = (-1 if step.epoch is None else step.epoch, step.step)
                    if place < expected:
                        raise BadFile(f"{self.path}:{number}: damaged: step {step.step} is not new")
                    expected = (place[0], place[1] + 1)
                    yield step

    def steps(self) -> Iterator[TraceStep]:
        """Each step."""
        return (line for line in self.lines() if isinstance(line, TraceStep))

    @property
    def has_steps(self) -> bool:
        """Whether the trace has a step."""
        return any(True for _ in self.steps())

    def end(self) -> TraceEnd | None:
        """The end; None if the process was killed before it wrote one."""
        line = self._last_line
        return self._end_of(0, line) if line.startswith(b'{"end"') else None

    @cached_property
    def _last_line(self) -> bytes:
        return last_line(self.path)

    def _end_of(self, number: int, line: bytes) -> TraceEnd:
        """The end in a line, decoded once."""
        if line not in self._ends:
            self._ends[line] = _decoded(self.path, number, line, TraceEnd)
        return self._ends[line]

    @cached_property
    def _ends(self) -> dict[bytes, TraceEnd]:
        return {}

    def values(self, event: TraceEvent) -> bytes | None:
        """The bytes of the event's tensor, if they were stored."""
        more = event.more
        if more.hex is not None:
            return inline_values(event)
        if more.at is None or more.shape is None or more.dtype not in WIDTHS:
            return None
        size = WIDTHS[more.dtype] * prod(more.shape)
        try:
            with self._values_path.open("rb") as file:
                file.seek(more.at)
                data = file.read(size)
        except OSError:
            return None
        return data if len(data) == size else None

    def keep_only(self, event: TraceEvent | None) -> None:
        """Remove the stored bytes of every tensor but the event's, which stay at their position."""
        data = None if event is None or event.more.hex is not None else self.values(event)
        if data is None or event is None or event.more.at is None:
            self._values_path.unlink(missing_ok=True)
            return
        kept = self._values_path.with_suffix(".kept")
        with kept.open("wb") as file:
            file.seek(event.more.at)  # the file has a hole before it
            file.write(data)
        kept.replace(self._values_path)

    @property
    def _values_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.values")


def inline_values(event: TraceEvent) -> bytes | None:
    """The bytes of the event's tensor in its line, or None; raises `BadFile`."""
    try:
        return None if event.more.hex is None else bytes.fromhex(event.more.hex)
    except ValueError:
        raise damaged(event) from None


def damaged(event: TraceEvent) -> BadFile:
    """The error for values that do not fit the event's type and shape."""
    kind = f"{event.more.dtype} of shape {event.more.shape}"
    return BadFile(f"a trace is damaged: the values of {event.identity} do not fit {kind}")


def opened(path: Path) -> TraceFile:
    """Read the head of a trace; raises `BadFile` for other files and versions."""
    try:
        with path.open("rb") as file:
            line = file.readline()
    except OSError as error:
        raise BadFile(f"{path}: cannot read: {why(error)}") from None
    head = _decoded(path, 1, line, TraceHead)
    if (head.schema_version, head.kind) != (SCHEMA_VERSION, "trace"):
        kind = f"{head.kind} of schema version {head.schema_version}"
        expected = f"this xorbench reads traces of version {SCHEMA_VERSION}"
        raise BadFile(f"{path}: is a {kind}, {expected}")
    return TraceFile(path, head)


@dataclass(frozen=True, slots=True)
class EpochTrace:
    """One epoch of a case: its digest, and its steps."""

    epoch: int
    loss: float | None
    digest: str
    steps: list[TraceStep]


@dataclass(frozen=True, slots=True)
class CaseTrace:
    """The whole trace of a case."""

    head: TraceHead
    training: TracedTraining
    epochs: dict[int, EpochTrace]


def case_head(training: TracedTraining, machine: dict[str, Any]) -> TraceHead:
    """The head of the trace of a case, without this machine's paths and names."""
    return TraceHead(
        producer="xorbench",
        digest=DIGEST,
        level="detail",
        machine=without_names(machine),
        training=training,
    )


def write(path: Path, trace: CaseTrace) -> None:
    """Write the trace of a case, whole or not at all; raises `BadFile` if it cannot."""
    lines: list[Struct] = [trace.head]
    for epoch in trace.epochs.values():
        lines += epoch.steps
        lines.append(EpochEnd(epoch_end=epoch.epoch, loss=epoch.loss, digest=epoch.digest))
    write_whole(path, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def is_trace(path: Path) -> bool:
    """Whether the path is a trace file, not the folder of a run."""
    return is_file(path)


def load_case(path: Path) -> CaseTrace:
    """Read the trace of a case; raises `BadFile`, naming the line, for any other content."""
    file = opened(path)
    if file.head.training is None:
        raise BadFile(f"{path}: is the trace of a program, not of a case")
    epochs: dict[int, EpochTrace] = {}
    steps: list[TraceStep] = []
    for line in file.all_lines():
        if isinstance(line, TraceStep):
            steps.append(line)
        elif isinstance(line, EpochEnd):
            number = line.epoch_end
            epochs[number] = EpochTrace(number, line.loss, line.digest, steps)
            steps = []
    if steps:
        raise BadFile(f"{path}: damaged: epoch {steps[-1].epoch} has no end")
    return CaseTrace(file.head, file.head.training, epochs)


def rank_of(trace: TraceFile) -> int:
    """The rank of the recorded process; 0 without a rank."""
    rank = trace.head.process.rank if trace.head.process else None
    return int(rank) if rank and rank.isdecimal() else 0


def recorded(folder: Path) -> list[TraceFile]:
    """The traces in a folder of records, by the start of their processes.

    Empty files, of processes that could not write, are skipped.
    """
    paths = sorted(folder.glob("[0-9]*.jsonl"))
    return [opened(path) for path in paths if path.stat().st_size]


def presence(folder: Path) -> list[PresenceLine]:
    """The events of `presence.jsonl`; truncated lines are skipped."""
    try:
        lines = (folder / PRESENCE).read_bytes().splitlines()
    except OSError:
        return []
    return [event for event in map(presence_line, lines) if event is not None]


def presence_line(line: bytes) -> PresenceLine | None:
    """A line of `presence.jsonl`; None for a truncated line."""
    try:
        return msgspec.json.decode(line, type=PresenceLine)
    except UNDECODABLE:
        return None


def is_kept_outside(line: PresenceLine) -> bool:
    """Whether a file written outside the working folder still exists and is not in a cache.

    An anonymous record lists only such files, and no absolute paths.
    """
    if not line.path.startswith(os.sep):
        return True
    home = os.path.expanduser("~")  # noqa: PTH111 - unchanged without a home
    caches = tuple(os.path.join(home, name) for name in (".cache", ".triton"))  # noqa: PTH118
    try:
        return not line.path.startswith(caches) and line.file.is_file()
    except ValueError:
        return False


def _decoded(path: Path, number: int, line: bytes, kind: type[LineKind]) -> LineKind:
    return decoded(line, kind, place(path, number))
