"""Small files of values kept between runs: calibration times and run-to-run variance.

Both are in `baselines/`, by machine key.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Final, Protocol, TypeVar

import msgspec
from msgspec import Meta, Struct

from xorbench.errors import BadFile
from xorbench.records.files import decoded, read_bytes, write_whole

CALIBRATIONS: Final = "baselines/calibrations.json"
VARIANCES: Final = "baselines/run_variance.json"
Share = Annotated[float, Meta(ge=0, lt=10)]


class Versioned(Protocol):
    """A record with a schema version."""

    @property
    def schema_version(self) -> int:
        """The schema version."""
        ...


AnySaved = TypeVar("AnySaved", bound=Versioned)


class SavedCalibration(Struct, frozen=True, kw_only=True):
    """A device's median calibration time in seconds, and the versions that measured it."""

    calibration_s: float
    calibration_version: int
    torch_version: str
    saved: str


class SavedCalibrations(Struct, frozen=True, kw_only=True):
    """Saved times by machine key, then by device."""

    schema_version: int = 2
    machines: dict[str, dict[str, SavedCalibration]] = {}


class SavedVariance(Struct, frozen=True, kw_only=True):
    """The run-to-run variance of a machine, measured by `baseline calibrate` in quiet runs.

    `between_runs` is a standard deviation of logarithms, `residual_drift` a share.
    """

    between_runs: Share
    residual_drift: Share
    runs: Annotated[int, Meta(ge=2)]
    processes: int
    calibration_version: int
    torch_version: str
    saved: str


class SavedVariances(Struct, frozen=True, kw_only=True):
    """Run-to-run variances by machine key."""

    schema_version: int = 1
    machines: dict[str, SavedVariance] = {}


def machine_key(host: dict[str, Any], hostname: str) -> str:
    """A key for this machine that hides its name: a hash of host name, processor and cores."""
    text = f"{hostname}\0{host['cpu']}\0{host['cores_logical']}\0{host['memory_bytes'] >> 30}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_calibrations(root: Path) -> SavedCalibrations:
    """The saved times, empty without a file; raises `BadFile` for a damaged or newer file."""
    return read_saved(root / CALIBRATIONS, SavedCalibrations(), "delete it and save again")


def save_calibrations(root: Path, key: str, times: dict[str, SavedCalibration]) -> None:
    """Add this machine's times; raises `BadFile` if the file cannot be read or written."""
    machines = load_calibrations(root).machines
    own_times = {key: {**machines.get(key, {}), **times}} if times else {}
    write_saved(root / CALIBRATIONS, SavedCalibrations(machines={**machines, **own_times}))


def load_variances(root: Path) -> SavedVariances:
    """The saved variances, empty without a file; raises `BadFile` for a damaged or newer file."""
    return read_saved(
        root / VARIANCES, SavedVariances(), "delete it, then run xorbench baseline calibrate again"
    )


def save_variance(root: Path, key: str, variance: SavedVariance) -> None:
    """Add this machine's variance; raises `BadFile` if the file cannot be read or written."""
    machines = {**load_variances(root).machines, key: variance}
    write_saved(root / VARIANCES, SavedVariances(machines=machines))


def read_saved(path: Path, empty: AnySaved, hint: str) -> AnySaved:
    """The record in a file; without a file, `empty`, which has the type of the record.

    Raises `BadFile` for a damaged file, with the hint, and for a different schema version.
    """
    if not path.exists():
        return empty
    record = decoded(read_bytes(path), type(empty), path, hint)
    if record.schema_version != empty.schema_version:
        versions = f"schema version {record.schema_version}, this reads {empty.schema_version}"
        raise BadFile(f"{path}: {versions}")
    return record


def write_saved(path: Path, record: Versioned) -> None:
    """Write the whole record with sorted entries, so that a change is a small diff."""
    content = msgspec.json.encode(record, order="deterministic")
    write_whole(path, msgspec.json.format(content) + b"\n")
