"""The saved calibration times of machines: one small file, `baselines/calibrations.json`."""

import hashlib
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from xorbench.observe.kept import read_kept, write_kept

SCHEMA_VERSION: Final = 2
NAME: Final = "baselines/calibrations.json"


class Saved(Struct, frozen=True, kw_only=True):
    """A device's median calibration time, in seconds, and what it was measured with."""

    calibration_s: float
    calibration_version: int
    torch_version: str
    saved: str


class SavedCalibrations(Struct, frozen=True, kw_only=True):
    """Saved times by machine key, then by device."""

    schema_version: int = SCHEMA_VERSION
    machines: dict[str, dict[str, Saved]] = {}


def machine_key(host: dict[str, Any], hostname: str) -> str:
    """Names this machine without saying its name: a hash of host name, processor and cores."""
    text = f"{hostname}\0{host['cpu']}\0{host['cores_logical']}\0{host['memory_bytes'] >> 30}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load(root: Path) -> SavedCalibrations:
    """The saved times, none where there is no file; raises `BadFile` for a damaged or newer one."""
    return read_kept(root / NAME, SavedCalibrations(), "delete it, and save anew")


def save(root: Path, key: str, times: dict[str, Saved]) -> None:
    """Keep this machine's times beside those of the others; raises `BadFile` where it cannot."""
    before = load(root)
    mine = {key: {**before.machines.get(key, {}), **times}} if times else {}
    write_kept(root / NAME, SavedCalibrations(machines={**before.machines, **mine}))
