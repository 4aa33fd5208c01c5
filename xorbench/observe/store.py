"""The folder of a run: the only module that reads and writes its files."""

import contextlib
import errno
import fcntl
import functools
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec

from xorbench.errors import BadFile, BadOption
from xorbench.observe.ledger import Ledger, require_own
from xorbench.observe.records import (
    SCHEMA_VERSION,
    BoundaryPoints,
    Chunk,
    EpochLine,
    Example,
    Failure,
    Float64Reference,
    GoldenInputs,
    ImportInfo,
    LessonsInfo,
    Line,
    Run,
    RunInfo,
    Skip,
    SweepInfo,
    SystemSample,
    TrainingRecord,
    Unfinished,
    slot_of,
    slots,
)


class Versioned(Protocol):
    """A record that says which schema version it has."""

    @property
    def schema_version(self) -> int:
        """The schema version."""
        ...


Kept = TypeVar("Kept", bound=Versioned)
RunRecord = TypeVar(
    "RunRecord",
    RunInfo,
    EpochLine,
    TrainingRecord,
    Skip,
    Failure,
    SystemSample,
    Float64Reference,
    GoldenInputs,
    SweepInfo,
    Chunk,
    LessonsInfo,
    ImportInfo,
)
OneLine = TypeVar("OneLine", EpochLine, Float64Reference, GoldenInputs, SystemSample)
KINDS: Final[dict[type, str]] = {
    RunInfo: "run",
    SweepInfo: "sweep",
    LessonsInfo: "lessons",
    ImportInfo: "benchmark",
}
RESUMABLE: Final = ("run", "sweep")
BYTES_PER_EPOCH: Final = 900
BYTES_PER_SEED: Final = 100
SPARE_BYTES: Final = 8 * 2**20

_ABSOLUTE_PATH = re.compile(r"(?<![\w./~<-])/(?!/)(?:[^\s/\"':;,()]+/)*([^\s/\"':;,()]+)")
_DEVICE_UUID = re.compile(
    r"\b(?:GPU-|MIG-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
)


class RunStore:
    """Writes one run's folder; every line is with the operating system before the next epoch."""

    def __init__(
        self,
        folder: Path,
        *,
        run: str | None = None,
        anonymous: bool = False,
        lock: bool = True,
        is_run: bool = True,
    ) -> None:
        self.folder = folder
        self.run = folder.name if run is None else run
        self.anonymous = anonymous
        self._is_run = is_run  # a new folder becomes one with its run.json
        self._lock = _lock(folder) if lock else None

    def write_info(self, info: RunInfo) -> None:
        """Write `run.json`, whole or not at all."""
        self.write_json("run.json", info)

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file, whole or not at all; without paths where the run is anonymous."""
        self.write_text(name, msgspec.json.format(self._encoded(value)).decode() + "\n")
        self._is_run |= name == "run.json"

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all."""
        write_whole(self.folder / name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a binary file, whole or not at all."""
        write_whole(self.folder / name, content)

    def append(self, name: str, record: Line) -> None:
        """Append one record as one line of this run, in one write."""
        line = self._encoded(msgspec.structs.replace(record, run=self.run)) + b"\n"
        path = self.folder / name
        with _reporting(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                _write_all(descriptor, line)
            finally:
                os.close(descriptor)

    def log_path(self, process: str) -> Path:
        """Where a process's standard output and error go."""
        return self.folder / "logs" / f"{process}.log"

    def close(self) -> None:
        """Let others resume the run; a folder that never became a run is taken away."""
        if not self._is_run:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def clean_logs(self) -> None:
        """Take paths out of what processes printed, once they have ended."""
        if self.anonymous:
            for log in (self.folder / "logs").glob("*.log"):
                self.write_text(f"logs/{log.name}", without_names(log.read_text(errors="replace")))

    def _encoded(self, value: object) -> bytes:
        """The value as JSON. Cleaned here, the reports made from what is read back are clean."""
        if self.anonymous:
            value = without_names(msgspec.to_builtins(value))
        return msgspec.json.encode(value)


def without_names(value: Any) -> Any:
    """The value, its strings without home, host name, absolute paths and device UUIDs.

    Of another path than the home its last part stays.
    """
    if isinstance(value, str):
        for secret, word in _secrets():
            value = value.replace(secret, word)
        return _DEVICE_UUID.sub("<uuid>", _ABSOLUTE_PATH.sub(r"\1", value))
    if isinstance(value, dict):
        return {key: without_names(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_names(item) for item in value]
    return value


@functools.cache
def _secrets() -> tuple[tuple[str, str], ...]:
    """Strings that name this machine or its user, and what stands in their place."""
    home, host = str(Path("~").expanduser()), socket.gethostname()
    named = ((home, "~"), (host, "<host>"))
    return tuple((secret, word) for secret, word in named if len(secret) > 3 and secret != "~")


def create(root: Path, name: str | None, size_bytes: int, *, anonymous: bool) -> RunStore:
    """Make a new run folder under `root/runs`; raises `BadOption` where it cannot hold the run."""
    runs = root / "runs"
    _refuse_taken(runs, name)
    try:
        runs.mkdir(parents=True, exist_ok=True)
        needed = size_bytes + SPARE_BYTES
        free = shutil.disk_usage(runs).free
        if free < needed:
            raise BadOption(
                f"--out: {root} has {free / 2**20:.0f} MiB free, the run needs {needed / 2**20:.0f}"
            )
        folder = _new_folder(runs)
    except OSError as error:
        raise BadOption(f"--out: cannot write to {root}: {_why(error)}") from None
    return RunStore(folder, anonymous=anonymous, is_run=False)


def point_latest(root: Path, folder: Path) -> None:
    """Let `root/latest` name this run; a race of two runs leaves one of them there."""
    temporary = root / f".latest-{secrets.token_hex(4)}"
    with _reporting(root / "latest"):
        temporary.symlink_to(Path("runs") / folder.name)
        temporary.replace(root / "latest")


def reopen(folder: Path) -> RunStore:
    """Reopen an unfinished run; a line that a crash cut short is removed."""
    names = ("epochs.jsonl", "results.jsonl", "float64.jsonl", "golden_inputs.jsonl")
    return _reopened(folder, read_info(folder), names)


def reopen_sweep(folder: Path) -> RunStore:
    """Take up an unfinished sweep; a line that a crash cut short is removed."""
    return _reopened(folder, read_sweep(folder), ("chunks.jsonl",))


def _reopened(folder: Path, info: RunInfo | SweepInfo, names: tuple[str, ...]) -> RunStore:
    store = RunStore(folder, run=info.id, anonymous=info.anonymous)
    for name in names:
        _drop_cut_line(folder / name)
    return store


def _new_folder(runs: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    while True:
        folder = runs / f"{stamp}-{secrets.token_hex(3)}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            (folder / "logs").mkdir()
            return folder


def _refuse_taken(runs: Path, name: str | None) -> None:
    if name and any(found == name for _, found in _named(runs)):
        raise BadOption(f"--name: {name!r} already names a run in {runs.parent}", "choose another")


def _named(runs: Path) -> Iterator[tuple[Path, str]]:
    """The runs that carry a name, with it; what cannot be read carries none."""
    for file in sorted(runs.glob("*/run.json")):
        with contextlib.suppress(OSError, ValueError):
            info = json.loads(file.read_bytes())
            if isinstance(info, dict) and isinstance(info.get("name"), str):
                yield file.parent, info["name"]


def _lock(folder: Path) -> int:
    path = folder / ".lock"
    with _reporting(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise BadFile(
                f"{folder}: this run is still going on", "wait for it, or stop it"
            ) from None
        raise
    return descriptor


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    with _reporting(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


@contextlib.contextmanager
def _reporting(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "free some space, then resume the run" if error.errno == errno.ENOSPC else ""
        raise BadFile(f"{path}: cannot write: {_why(error)}", hint) from None


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _drop_cut_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)


# Reading


def find(root: Path, text: str, option: str = "RUN") -> Path:
    """The folder of a run: by path, id, unique prefix of an id, name, or `latest`.

    Raises `BadOption`, named for the option that asked, where it is none or several.
    """
    if not text:
        hint = "give a path, an id, a prefix of one, a name, or latest"
        raise BadOption(f"{option}: empty", hint)
    try:
        matches = _matching(root, text)
    except (OSError, ValueError) as error:  # a name too long, or one that no file can have
        raise BadOption(f"{option}: {text[:60]!r}: {str(error.args[-1]).lower()}") from None
    if not matches:
        raise BadOption(f"{option}: no run {text!r} in {root}", _known(root / "runs"))
    if len(matches) > 1:
        names = ", ".join(folder.name for folder in matches[:4])
        raise BadOption(f"{option}: {text!r} fits {len(matches)} runs: {names}", "give more of it")
    return matches[0].resolve()


def _matching(root: Path, text: str) -> list[Path]:
    """The folders that a text may mean, the first kind of match that there is."""
    runs = root / "runs"
    for path in (root / "latest" if text == "latest" else runs / text, Path(text)):
        if (path / "run.json").is_file():
            return [path]
    prefixed = [folder for folder in sorted(runs.glob("*")) if folder.name.startswith(text)]
    if prefixed:
        return prefixed
    named = [folder for folder, name in _named(runs) if name == text]
    return named or [path for path in [Path(text)] if path.is_dir()]


def _known(runs: Path) -> str:
    names = sorted((folder.name for folder in runs.glob("*")), reverse=True)[:3]
    return f"the newest are {', '.join(names)}" if names else "python -m xorbench run makes one"


def read_info(folder: Path) -> RunInfo:
    """`run.json` of a run; raises `BadFile` where it is missing, damaged, newer or a sweep's."""
    return _read_info(folder, RunInfo)


def read_sweep(folder: Path) -> SweepInfo:
    """`run.json` of a sweep; raises `BadFile` where it is missing, damaged, newer or a run's."""
    return _read_info(folder, SweepInfo)


def read_lessons(folder: Path) -> LessonsInfo:
    """`run.json` of lessons; raises `BadFile` where it is missing, damaged, newer or another's."""
    return _read_info(folder, LessonsInfo)


def read_import(folder: Path) -> ImportInfo:
    """`run.json` of an imported file; raises `BadFile` where it is missing, damaged or newer."""
    return _read_info(folder, ImportInfo)


def _read_info(folder: Path, kind: type[RunRecord]) -> RunRecord:
    path = _info_path(folder)
    return _record(path, 0, read_bytes(path), kind)


def kind_of(folder: Path) -> str:
    """What a folder holds: `run`, `sweep`, `lessons` or `benchmark`, if it is well."""
    path = _info_path(folder)
    return str(_object(path, 0, read_bytes(path)).get("kind", "run"))


def _info_path(folder: Path) -> Path:
    path = folder / "run.json"
    if not path.exists():
        raise BadFile(
            f"{folder}: holds no run.json", "a run writes it once its processes have started"
        )
    return path


def chunks(folder: Path, info: SweepInfo) -> Iterator[Chunk]:
    """The chunks of a sweep as they were trained, one at a time.

    Raises:
        BadFile: a line is damaged, or is not the chunk that the plan has in its place.
    """
    pieces = info.plan.pieces()
    for path, number, line in _lines(folder / "chunks.jsonl"):
        chunk = _record(path, number, line, Chunk)
        piece = next(pieces, None)
        found = (chunk.batch_size, chunk.first_seed, chunk.count, len(chunk.right_after))
        if piece is None or found != (*astuple(piece), info.plan.recipe.epochs):
            raise BadFile(
                f"{_place(path, number)}: damaged: not the chunk that the plan has in its place"
            )
        require_own(_place(path, number), info.id, chunk)
        yield chunk


def read_examples(folder: Path) -> list[Example]:
    """The models of a sweep that are kept as pictures; none before its end."""
    path = folder / "examples.json"
    if not path.exists():
        return []
    try:
        return msgspec.json.decode(read_bytes(path), type=list[Example])
    except msgspec.MsgspecError as error:
        raise BadFile(f"{path}: damaged: {error}") from None


def load(folder: Path) -> Run:
    """Everything observed in a run, finished or not; raises `BadFile` for what is damaged.

    A line of another run, and one that stands twice, are damage: they would count as evidence.
    """
    info = read_info(folder)
    ledger = Ledger(info)
    epochs = [ledger.epoch(_place(*at), line) for at, line in _own(folder, info, EpochLine)]
    trainings: list[TrainingRecord] = []
    skips: list[Skip] = []
    failures: list[Failure] = []
    for path, number, line in _lines(folder / "results.jsonl"):
        keys, place = _object(path, number, line).keys(), _place(path, number)
        if "skipped" in keys:
            skips.append(ledger.skip(place, _record(path, number, line, Skip)))
        elif "failed" in keys:
            failures.append(ledger.failure(place, _record(path, number, line, Failure)))
        else:
            trainings.append(ledger.training(place, _record(path, number, line, TrainingRecord)))
    return Run(
        info=info,
        epochs=epochs,
        trainings=trainings,
        skips=skips,
        failures=failures,
        unfinished=_unfinished(info, epochs, trainings, skips, failures),
        float64=[
            ledger.float64(_place(*at), line) for at, line in _own(folder, info, Float64Reference)
        ],
        golden_inputs=[
            ledger.golden_inputs(_place(*at), line) for at, line in _own(folder, info, GoldenInputs)
        ],
        points=_points(folder),
        system_samples=[line for _, line in _own(folder, info, SystemSample)],
    )


LINES: Final[dict[type[Line], str]] = {
    EpochLine: "epochs.jsonl",
    Float64Reference: "float64.jsonl",
    GoldenInputs: "golden_inputs.jsonl",
    SystemSample: "system_samples.jsonl",
}


def _own(
    folder: Path, info: RunInfo, kind: type[OneLine]
) -> Iterator[tuple[tuple[Path, int], OneLine]]:
    """The lines of one kind, each with its place; raises `BadFile` for one of another run."""
    for path, number, line in _lines(folder / LINES[kind]):
        record = _record(path, number, line, kind)
        require_own(_place(path, number), info.id, record)
        yield (path, number), record


def _points(folder: Path) -> BoundaryPoints | None:
    """The test points kept for the picture; a run is whole without them."""
    path = folder / "boundary_points.json"
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(read_bytes(path), type=BoundaryPoints)
    except msgspec.MsgspecError as error:
        raise BadFile(f"{path}: damaged: {error}") from None


def _unfinished(
    info: RunInfo,
    epochs: list[EpochLine],
    trainings: list[TrainingRecord],
    skips: list[Skip],
    failures: list[Failure],
) -> list[Unfinished]:
    ended: list[TrainingRecord | Failure] = [*trainings, *failures]
    done = {(record.case.id, slot_of(record.process)) for record in ended}
    skipped = {skip.case.id for skip in skips}
    seen: dict[tuple[str, str], int] = {}
    for line in epochs:
        if not line.warmup:
            key = (line.case, slot_of(line.process))
            seen[key] = seen.get(key, 0) + 1
    return [
        Unfinished(case=case, slot=slot, config=config.id, epochs=seen.get((case.id, slot), 0))
        for slot, config, _ in slots(info.configs, info.processes_per_config)
        for case in info.cases
        if case.id not in skipped and (case.id, slot) not in done
    ]


def _lines(path: Path) -> Iterator[tuple[Path, int, bytes]]:
    """The whole lines of a file; one cut short by a crash at its end is left out."""
    if not path.exists():
        return
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield path, number, line
    except OSError as error:
        raise BadFile(f"{path}: cannot read: {_why(error)}") from None


def read_kept(path: Path, empty: Kept, hint: str) -> Kept:
    """A small file that is kept between runs, or `empty`, of its type, where there is none.

    Raises `BadFile`, with the hint, for a damaged one, and for one of another schema version.
    """
    if not path.exists():
        return empty
    try:
        kept = msgspec.json.decode(read_bytes(path), type=type(empty))
    except msgspec.MsgspecError as error:
        raise BadFile(f"{path}: damaged: {error}", hint) from None
    if kept.schema_version != empty.schema_version:
        found, reads = kept.schema_version, empty.schema_version
        raise BadFile(f"{path}: schema version {found}, this reads {reads}")
    return kept


def read_bytes(path: Path) -> bytes:
    """The content of a file; raises `BadFile` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadFile(f"{path}: cannot read: {_why(error)}") from None


def _object(path: Path, number: int, content: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(content)
    except msgspec.MsgspecError as error:
        raise BadFile(f"{_place(path, number)}: damaged: {error}") from None
    if not isinstance(value, dict):
        raise BadFile(f"{_place(path, number)}: damaged: not an object")
    return value


def _record(path: Path, number: int, content: bytes, kind: type[RunRecord]) -> RunRecord:
    value = _object(path, number, content)
    if kind in KINDS:
        _require_kind(path, value, KINDS[kind])
    try:
        return msgspec.convert(value, kind)
    except (msgspec.MsgspecError, BadOption) as error:
        raise BadFile(f"{_place(path, number)}: damaged: {error}") from None


def _require_kind(path: Path, value: dict[str, Any], kind: str) -> None:
    """Raise `BadFile` for the schema of another version, or a folder of another kind."""
    if value.get("schema_version") != SCHEMA_VERSION:
        raise BadFile(
            f"{path}: schema version {value.get('schema_version')!r},"
            f" this xorbench reads {SCHEMA_VERSION}",
            "read it with the xorbench that wrote it, or a newer one",
        )
    found = value.get("kind", "run")
    if found != kind:
        raise BadFile(
            f"{path}: is a {found}, not a {kind}",
            f"python -m xorbench report shows it, {found} --resume goes on with it"
            if found in RESUMABLE
            else "python -m xorbench report shows it"
            if found in KINDS.values()
            else "",
        )


def _place(path: Path, number: int) -> str:
    return f"{path}:{number}" if number else str(path)
