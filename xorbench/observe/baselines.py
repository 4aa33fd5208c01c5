"""Named runs to compare with: copies in `baselines/NAME`, of what a comparison reads."""

import shutil
from pathlib import Path
from typing import Final

from xorbench.errors import BadFile, BadOption
from xorbench.observe import files, loading

FOLDER: Final = "baselines"
KEPT: Final = (
    "run.json",
    "epochs.jsonl",
    "calibrations.jsonl",
    "results.jsonl",
    "verdicts.json",
    "system_samples.jsonl",
)


def find(root: Path, name: str) -> Path:
    """The folder of a saved baseline; raises `BadOption` where there is none."""
    folder = root / FOLDER / name
    if not (folder / "run.json").is_file():
        known = sorted(path.parent.name for path in (root / FOLDER).glob("*/run.json"))
        hint = f"one of {', '.join(known)}" if known else "save one: save-baseline NAME RUN"
        raise BadOption(f"--baseline: no baseline {name!r} in {root / FOLDER}", hint)
    return folder


def save(root: Path, name: str, run: Path, *, replace: bool) -> Path:
    """Keep a run under a name; all of it or nothing.

    Raises `BadOption` for a name that is taken, and `BadFile` for a run that is no baseline:
    unfinished, with failures, with injected faults, or under stress.
    """
    folder = root / FOLDER / name
    if folder.exists() and not replace:
        raise BadOption(f"save-baseline: {name!r} is taken", "another name, or --replace")
    observed = loading.load(run)
    flaws = (
        (not observed.info.finished or observed.unfinished, "is not finished"),
        (observed.info.faults, "has injected faults"),
        (observed.info.stress, "was put under stress"),
        (observed.failures, "has failed cases"),
        (not observed.trainings, "has trained nothing"),
    )
    for flawed, what in flaws:
        if flawed:
            raise BadFile(f"{run}: {what}: it is no baseline")
    partial = folder.with_name(f".{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for kept in KEPT:
        for path in (run / kept, files.packed_path(run / kept)):
            if path.exists():
                files.write_whole(partial / path.name, files.read_bytes(path))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder
