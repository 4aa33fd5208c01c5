"""Named runs to compare with: copies in `baselines/NAME`, of what a comparison reads."""

import contextlib
import shutil
from pathlib import Path
from typing import Any, Final

from xorbench.errors import BadFile, BadOption
from xorbench.observe import files, loading
from xorbench.observe.records.run import Run, RunInfo
from xorbench.observe.saved import machine_key

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
    if not files.is_file(folder / "run.json"):
        known = sorted(path.parent.name for path in (root / FOLDER).glob("*/run.json"))
        hint = f"one of {', '.join(known)}" if known else "save one: save-baseline NAME RUN"
        raise BadOption(f"--baseline: no baseline {name[:100]!r} in {root / FOLDER}", hint)
    return folder


def save(root: Path, name: str, run: Path, *, replace: bool) -> Path:
    """Keep a run under a name; all of it or nothing.

    Raises `BadOption` for a name that is taken, and `BadFile` for a run that is no baseline:
    unfinished, with failures, with injected faults, or under stress.
    """
    folder = root / FOLDER / name
    if folder.exists() and not replace:
        raise BadOption(f"save-baseline: {name!r} is taken", "another name, or --replace")
    if flaw := flaw_of(loading.load(run)):
        raise BadFile(f"{run}: {flaw}: it is no baseline")
    partial, old = (folder.with_name(f".{name}.{what}") for what in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for kept in KEPT:
            for path in (run / kept, files.packed_path(run / kept)):
                if path.exists():
                    files.write_whole(partial / path.name, files.read_bytes(path))
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for rest in (partial, old):
            shutil.rmtree(rest, ignore_errors=True)
    return folder


def flaw_of(run: Run) -> str:
    """Why the run can be no baseline; empty where it can."""
    flaws = (
        (not run.info.finished or run.unfinished, "is not finished"),
        (run.info.faults, "has injected faults"),
        (run.info.stress, "was put under stress"),
        (run.failures, "has failed cases"),
        (not run.trainings, "has trained nothing"),
    )
    return next((what for flawed, what in flaws if flawed), "")


def of_machine(root: Path, run: RunInfo) -> list[Path]:
    """The baselines of a run's machine and recipe, the newest first, and never the run itself.

    One that cannot be read is passed by: nobody has asked for it.
    """
    found = []
    for path in (root / FOLDER).glob("*/run.json"):
        with contextlib.suppress(BadFile):
            info = loading.read_info(path.parent)
            if info.id != run.id and _is_alike(info, run):
                found.append((info.started, path.parent))
    return [folder for _, folder in sorted(found, reverse=True)]


def _is_alike(one: RunInfo, other: RunInfo) -> bool:
    figures = [(info.recipe_sha256, info.calibration_version) for info in (one, other)]
    return figures[0] == figures[1] and is_same_machine(one.host, other.host)


def is_same_machine(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two hosts are one, by name too where both have one: an anonymous host has none."""
    named = "hostname" in a and "hostname" in b
    try:
        one, other = (machine_key(host, host["hostname"] if named else "") for host in (a, b))
    except KeyError:
        return False
    return one == other
