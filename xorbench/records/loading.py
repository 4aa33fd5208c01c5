"""Loads a run: every line is decoded once, and errors name the damaged line."""

import shlex
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from xorbench.errors import BadFile
from xorbench.records.files import UNDECODABLE, decoded, place, read_bytes, whole_lines
from xorbench.records.ledger import CalibrationTimes, Ledger, require_own, training_record
from xorbench.records.pytest_benchmark import ImportInfo
from xorbench.records.schema.golden import Float64Reference, GoldenInputs
from xorbench.records.schema.line import SCHEMA_VERSION, Line
from xorbench.records.schema.phases import PhasesLine
from xorbench.records.schema.run import Run, RunInfo
from xorbench.records.schema.sweep import Chunk, Example, SweepInfo
from xorbench.records.schema.system import SystemSample
from xorbench.records.schema.training import (
    BoundaryPoints,
    CalibrationLine,
    EpochLine,
    Failure,
    Skip,
    TrainingEnd,
    TrainingRecord,
)

Info = RunInfo | SweepInfo | ImportInfo
AnyInfo = TypeVar("AnyInfo", RunInfo, SweepInfo, ImportInfo)
AnyLine = TypeVar("AnyLine", bound=Line)
Converted = TypeVar("Converted")
KINDS: Final[dict[type, str]] = {
    RunInfo: "run",
    SweepInfo: "sweep",
    ImportInfo: "benchmark",
}
RESULTS: Final = "results.jsonl"
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
    """`run.json` of a run; raises `BadFile` if it is missing, damaged or of another kind."""
    return read_kind(folder, RunInfo)


def read_kind(folder: Path, kind: type[AnyInfo]) -> AnyInfo:
    """`run.json` of this kind; raises `BadFile` if it is missing, damaged or of another kind."""
    return info_of(folder, read_object(folder), kind)


def read_any(folder: Path) -> Info:
    """`run.json` of any kind; raises `BadFile` if it is missing, damaged or newer."""
    value = read_object(folder)
    kinds = {name: kind for kind, name in KINDS.items()}
    return info_of(folder, value, kinds.get(str(value.get("kind", "run")), RunInfo))


def read_object(folder: Path) -> dict[str, Any]:
    """`run.json` as a dictionary; raises `BadFile` if it is missing or is not a JSON object."""
    path = folder / "run.json"
    if not path.exists():
        raise BadFile(
            f"{folder}: holds no run.json",
            f"left by a run that ended before training: rm -r {shlex.quote(str(folder))}",
        )
    return _object(str(path), read_bytes(path))


def info_of(folder: Path, value: dict[str, Any], kind: type[AnyInfo]) -> AnyInfo:
    """The content of `run.json` as a record; raises `BadFile` if it is damaged or not this kind."""
    path = folder / "run.json"
    _require_kind(path, value, KINDS[kind])
    return _converted(str(path), value, kind)


def chunks(folder: Path, info: SweepInfo) -> Iterator[Chunk]:
    """The chunks of a sweep in the order of their training.

    Raises:
        BadFile: a line is damaged, or is not the planned chunk.
    """
    pieces = info.plan.pieces()
    for path, number, line in whole_lines(folder / "chunks.jsonl"):
        chunk = _converted(place(path, number), _object(place(path, number), line), Chunk)
        piece = next(pieces, None)
        actual = (chunk.batch_size, chunk.first_seed, chunk.count, len(chunk.right_after))
        if piece is None or actual != (*astuple(piece), info.plan.recipe.epochs):
            raise BadFile(f"{place(path, number)}: damaged: not the planned chunk")
        require_own(place(path, number), info.id, chunk)
        yield chunk


def read_examples(folder: Path) -> list[Example]:
    """The models of a sweep stored as pictures; none before its end."""
    path = folder / "examples.json"
    if not path.exists():
        return []
    return decoded(read_bytes(path), list[Example], path)


def load(folder: Path, info: Info | None = None) -> Run:
    """All observations of a run, finished or not; raises `BadFile` for a damaged line.

    Lines of another run and duplicate lines are damage too: they would count as evidence. `info` is
    the content of `run.json`, if it has been read already.
    """
    info = info if isinstance(info, RunInfo) else read_info(folder)
    ledger = Ledger(info)

    def lines(kind: type[AnyLine]) -> list[AnyLine]:
        return list(_lines(folder, kind, ledger))

    lines(EpochLine)  # the ledger groups them
    calibrations = lines(CalibrationLine)
    results = list(_results(folder, ledger, CalibrationTimes(calibrations)))
    skips = [result for result in results if isinstance(result, Skip)]
    return Run(
        info=info,
        epochs_by_training=ledger.epochs,
        calibrations=calibrations,
        trainings=[result for result in results if isinstance(result, TrainingRecord)],
        skips=skips,
        failures=[result for result in results if isinstance(result, Failure)],
        unfinished=ledger.unfinished(skips),
        float64=lines(Float64Reference),
        golden_inputs=lines(GoldenInputs),
        phases=lines(PhasesLine),
        points=_points(folder),
        system_samples=lines(SystemSample),
    )


def _lines(folder: Path, kind: type[AnyLine], ledger: Ledger) -> Iterator[AnyLine]:
    """The lines of one kind, each entered into the ledger."""
    for path, number, content in whole_lines(folder / LINES[kind]):
        location = place(path, number)
        line = _converted(location, _object(location, content), kind)
        ledger.enter(location, line)
        yield line


def _results(
    folder: Path, ledger: Ledger, times: CalibrationTimes
) -> Iterator[TrainingRecord | Skip | Failure]:
    """The lines of `results.jsonl`, with their epochs for the ends of trainings."""
    for path, number, content in whole_lines(folder / RESULTS):
        location = place(path, number)
        value = _object(location, content)
        kind: type[Skip | Failure | TrainingEnd] = (
            Skip if "skipped" in value else Failure if "failed" in value else TrainingEnd
        )
        line = _converted(location, value, kind)
        ledger.enter(location, line)
        if not isinstance(line, TrainingEnd):
            yield line
            continue
        try:
            yield training_record(line, ledger.epochs, times)
        except ValueError as error:
            raise BadFile(f"{location}: damaged: {error}") from None


def _points(folder: Path) -> BoundaryPoints | None:
    """The test points stored for the picture; they are optional."""
    path = folder / "boundary_points.json"
    if not path.exists():
        return None
    return decoded(read_bytes(path), BoundaryPoints, path)


def _object(location: str, content: bytes) -> dict[str, Any]:
    value: Any = decoded(content, object, location)
    if not isinstance(value, dict):
        raise BadFile(f"{location}: damaged: not an object")
    return value


def _converted(location: str, value: dict[str, Any], kind: type[Converted]) -> Converted:
    try:
        return msgspec.convert(value, kind)
    except UNDECODABLE as error:
        raise BadFile(f"{location}: damaged: {error}") from None


def _require_kind(path: Path, value: dict[str, Any], kind: str) -> None:
    """Raise `BadFile` for a different schema version or another kind of folder."""
    if (version := value.get("schema_version")) != SCHEMA_VERSION:
        raise BadFile(
            f"{path}: schema version {version!r}, this xorbench reads {SCHEMA_VERSION}",
            "read it with the xorbench that wrote it, or a newer one",
        )
    actual = value.get("kind", "run")
    if actual != kind:
        raise BadFile(
            f"{path}: is a {actual}, not a {kind}",
            f"python -m xorbench report shows it, {actual} --resume continues it"
            if actual in RESUMABLE
            else "python -m xorbench report shows it"
            if actual in KINDS.values()
            else "",
        )
