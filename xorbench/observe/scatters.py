"""What the runs of machines differ by: one small file, `baselines/scatter.json`."""

from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from xorbench.observe.kept import read_kept, write_kept

SCHEMA_VERSION: Final = 1
NAME: Final = "baselines/scatter.json"
Share = Annotated[float, Meta(ge=0, lt=10)]


class SavedScatter(Struct, frozen=True, kw_only=True):
    """What `calibrate` found on a machine, from so many quiet runs, and with what.

    `between_runs` is a standard deviation of logarithms, `residual_drift` a share.
    """

    between_runs: Share
    residual_drift: Share
    runs: Annotated[int, Meta(ge=2)]
    processes: int
    calibration_version: int
    torch_version: str
    saved: str


class SavedScatters(Struct, frozen=True, kw_only=True):
    """What was found, by machine key (`calibrations.machine_key`)."""

    schema_version: int = SCHEMA_VERSION
    machines: dict[str, SavedScatter] = {}


def load(root: Path) -> SavedScatters:
    """What is saved, nothing where there is no file; raises `BadFile` for a damaged one."""
    return read_kept(root / NAME, SavedScatters(), "delete it, and calibrate anew")


def save(root: Path, key: str, found: SavedScatter) -> None:
    """Keep a machine's beside those of the others; raises `BadFile` where it cannot."""
    write_kept(root / NAME, SavedScatters(machines={**load(root).machines, key: found}))
