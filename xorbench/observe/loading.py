"""Reading a run back: every line decoded once, and damage named with its place."""

import shlex
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from xorbench.errors import BadFile
from xorbench.observe import schema_v3
from xorbench.observe.files import UNDECODABLE, decoded, place, read_bytes, whole_lines
from xorbench.observe.ledger import Ledger, require_own
from xorbench.observe.pytest_benchmark import ImportInfo
from xorbench.observe.records.golden import Float64Reference, GoldenInputs
from xorbench.observe.records.line import READ_TOO, SCHEMA_VERSION, Line
from xorbench.observe.records.phases import PhasesLine
from xorbench.observe.records.process import slot_of, slots
from xorbench.observe.records.run import Run, RunInfo
from xorbench.observe.records.sweep import Chunk, Example, SweepInfo
from xorbench.observe.records.system import SystemSample
from xorbench.observe.records.training import (
    BoundaryPoints,
    CalibrationLine,
    EpochLine,
    Failure,
    Skip,
    TrainingEnd,
    TrainingRecord,
    Unfinished,
)
from xorbench.observe.schema_v3 import OldInfo
from xorbench.observe.trainings import CalibrationTimes, training_record

RunRecord = TypeVar(
    "RunRecord",
    RunInfo,
    EpochLine,
    CalibrationLine,
    TrainingEnd,
    TrainingRecord,
    Skip,
    Failure,
    SystemSample,
    Float64Reference,
    GoldenInputs,
    PhasesLine,
    SweepInfo,
    Chunk,
    ImportInfo,
)
OneLine = TypeVar(
    "OneLine",
    EpochLine,
    CalibrationLine,
    Float64Reference,
    GoldenInputs,
    PhasesLine,
    SystemSample,
)
KINDS: Final[dict[type, str]] = {
    RunInfo: "run",
    SweepInfo: "sweep",
    ImportInfo: "benchmark",
}
RESUMABLE: Final = ("run", "sweep")
LINES: Final[dict[type[Line], str]] = {
    EpochLine: "epochs.jsonl",
    CalibrationLine: "calibrations.jsonl",
    Float64Reference: "float64.jsonl",
    GoldenInputs: "golden_inputs.jsonl",
    PhasesLine: "phases.jsonl",
    SystemSample: "system_samples.jsonl",
}


def read_info(folder: Path) -> RunInfo:
    """`run.json` of a run; raises `BadFile` where it is missing, damaged, newer or a sweep's."""
    return _read_info(folder, RunInfo)


def read_sweep(folder: Path) -> SweepInfo:
    """`run.json` of a sweep; raises `BadFile` where it is missing, damaged, newer or a run's."""
    return _read_info(folder, SweepInfo)


def read_import(folder: Path) -> ImportInfo:
    """`run.json` of an imported file; raises `BadFile` where it is missing, damaged or newer."""
    return _read_info(folder, ImportInfo)


def _read_info(folder: Path, kind: type[RunRecord]) -> RunRecord:
    path = _info_path(folder)
    return _record(path, 0, read_bytes(path), kind)


def kind_of(folder: Path) -> str:
    """What a folder holds: `run`, `sweep` or `benchmark`, if it is well."""
    path = _info_path(folder)
    return str(_object(path, 0, read_bytes(path)).get("kind", "run"))


def _info_path(folder: Path) -> Path:
    path = folder / "run.json"
    if not path.exists():
        raise BadFile(
            f"{folder}: holds no run.json",
            f"a run that was ended before it trained left it: rm -r {shlex.quote(str(folder))}",
        )
    return path


def chunks(folder: Path, info: SweepInfo) -> Iterator[Chunk]:
    """The chunks of a sweep as they were trained, one at a time.

    Raises:
        BadFile: a line is damaged, or is not the chunk that the plan has in its place.
    """
    pieces = info.plan.pieces()
    for path, number, line in whole_lines(folder / "chunks.jsonl"):
        chunk = _record(path, number, line, Chunk)
        piece = next(pieces, None)
        found = (chunk.batch_size, chunk.first_seed, chunk.count, len(chunk.right_after))
        if piece is None or found != (*astuple(piece), info.plan.recipe.epochs):
            raise BadFile(
                f"{place(path, number)}: damaged: not the chunk that the plan has in its place"
            )
        require_own(place(path, number), info.id, chunk)
        yield chunk


def read_examples(folder: Path) -> list[Example]:
    """The models of a sweep that are kept as pictures; none before its end."""
    path = folder / "examples.json"
    if not path.exists():
        return []
    return decoded(read_bytes(path), list[Example], path)


def load(folder: Path) -> Run:
    """Everything observed in a run, finished or not; raises `BadFile` for what is damaged.

    A line of another run, and one that stands twice, are damage: they would count as evidence.
    """
    info = read_info(folder)
    ledger = Ledger(info)
    epochs = [ledger.epoch(place(*at), line) for at, line in _own(folder, info, EpochLine)]
    calibrations = _calibrations(folder, info, ledger)
    times = CalibrationTimes(calibrations)
    trainings: list[TrainingRecord] = []
    skips: list[Skip] = []
    failures: list[Failure] = []
    for path, number, line in whole_lines(folder / "results.jsonl"):
        keys, at = _object(path, number, line).keys(), place(path, number)
        if "skipped" in keys:
            skips.append(ledger.skip(at, _record(path, number, line, Skip)))
        elif "failed" in keys:
            failures.append(ledger.failure(at, _record(path, number, line, Failure)))
        elif info.schema_version == SCHEMA_VERSION:
            end = ledger.training(at, _record(path, number, line, TrainingEnd))
            trainings.append(_whole(at, end, ledger, times))
        else:
            trainings.append(ledger.training(at, _record(path, number, line, TrainingRecord)))
    return Run(
        info=info,
        epochs=epochs,
        calibrations=calibrations,
        trainings=trainings,
        skips=skips,
        failures=failures,
        unfinished=_unfinished(info, epochs, trainings, skips, failures),
        float64=[
            ledger.float64(place(*at), line) for at, line in _own(folder, info, Float64Reference)
        ],
        golden_inputs=[
            ledger.golden_inputs(place(*at), line) for at, line in _own(folder, info, GoldenInputs)
        ],
        phases=[ledger.phases(place(*at), line) for at, line in _own(folder, info, PhasesLine)],
        points=_points(folder),
        system_samples=[line for _, line in _own(folder, info, SystemSample)],
    )


def _whole(at: str, end: TrainingEnd, ledger: Ledger, times: CalibrationTimes) -> TrainingRecord:
    """A training with its epochs; raises `BadFile` for one whose times cannot be."""
    warmup = ledger.epochs_of(end, warmup=True)
    try:
        return training_record(end, ledger.epochs_of(end), warmup, times)
    except ValueError as error:
        raise BadFile(f"{at}: damaged: {error}") from None


def _calibrations(folder: Path, info: RunInfo, ledger: Ledger) -> list[CalibrationLine]:
    """Every calibration of a run; of an older one those that it kept."""
    if info.schema_version == SCHEMA_VERSION:
        own = _own(folder, info, CalibrationLine)
        return [ledger.calibration(place(*at), line) for at, line in own]
    path = _info_path(folder)
    return list(schema_v3.calibrations(decoded(read_bytes(path), OldInfo, path), info.id))


def _own(
    folder: Path, info: RunInfo, kind: type[OneLine]
) -> Iterator[tuple[tuple[Path, int], OneLine]]:
    """The lines of one kind, each with its place; raises `BadFile` for one of another run."""
    for path, number, line in whole_lines(folder / LINES[kind]):
        record = _record(path, number, line, kind)
        require_own(place(path, number), info.id, record)
        yield (path, number), record


def _points(folder: Path) -> BoundaryPoints | None:
    """The test points kept for the picture; a run is whole without them."""
    path = folder / "boundary_points.json"
    if not path.exists():
        return None
    return decoded(read_bytes(path), BoundaryPoints, path)


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


def _object(path: Path, number: int, content: bytes) -> dict[str, Any]:
    value: Any = decoded(content, object, place(path, number))
    if not isinstance(value, dict):
        raise BadFile(f"{place(path, number)}: damaged: not an object")
    return value


def _record(path: Path, number: int, content: bytes, kind: type[RunRecord]) -> RunRecord:
    value = _object(path, number, content)
    if kind in KINDS:
        _require_kind(path, value, KINDS[kind])
    try:
        return msgspec.convert(value, kind)
    except UNDECODABLE as error:
        raise BadFile(f"{place(path, number)}: damaged: {error}") from None


def _require_kind(path: Path, value: dict[str, Any], kind: str) -> None:
    """Raise `BadFile` for the schema of another version, or a folder of another kind."""
    if value.get("schema_version") not in (SCHEMA_VERSION, *READ_TOO):
        raise BadFile(
            f"{path}: schema version {value.get('schema_version')!r},"
            f" this xorbench reads {', '.join(map(str, (*READ_TOO, SCHEMA_VERSION)))}",
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
