"""Named runs to compare with: `baselines/NAME` has copies of the files that a comparison reads."""

import contextlib
import shutil
from pathlib import Path
from typing import Any, Final

from xorbench.errors import BadFile, BadOption
from xorbench.records import files, loading
from xorbench.records.saved import machine_key
from xorbench.records.schema.run import Run, RunInfo

FOLDER: Final = "baselines"
FILES: Final = (
    "run.json",
    "epochs.jsonl",
    "calibrations.jsonl",
    "results.jsonl",
    "verdicts.json",
    "system_samples.jsonl",
)


def find(root: Path, name: str) -> Path:
    """The folder of a saved baseline; raises `BadOption` for an unknown name."""
    folder = root / FOLDER / name
    if not files.is_file(folder / "run.json"):
        known = sorted(path.parent.name for path in (root / FOLDER).glob("*/run.json"))
        hint = f"one of {', '.join(known)}" if known else "save one: baseline save NAME RUN"
        raise BadOption(f"--baseline: no baseline {name[:100]!r} in {root / FOLDER}", hint)
    return folder


def save(root: Path, name: str, run: Path, *, replace: bool) -> Path:
    """Save a run under a name, whole or not at all.

    Raises `BadOption` if the name is taken. Raises `BadFile` if the run cannot be a baseline:
    unfinished, with failed cases, with injected faults, or under load.
    """
    folder = root / FOLDER / name
    if folder.exists() and not replace:
        hint = "choose another name, or replace it with --replace"
        raise BadOption(f"baseline save: {name!r} is taken", hint)
    if flaw := flaw_of(loading.load(run)):
        raise BadFile(f"{run}: cannot be a baseline: it {flaw}")
    partial, old = (folder.with_name(f".{name}.{suffix}") for suffix in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for file in FILES:
            for path in (run / file, files.packed_path(run / file)):
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
    """The reason why the run cannot be a baseline; empty if it can."""
    flaws = (
        (not run.info.finished or run.unfinished, "is not finished"),
        (run.info.faults, "has injected faults"),
        (run.info.stress, "ran under load"),
        (run.failures, "has failed cases"),
        (not run.trainings, "has no finished training"),
    )
    return next((flaw for flawed, flaw in flaws if flawed), "")


def machine_baselines(root: Path, run: RunInfo) -> list[tuple[Path, RunInfo]]:
    """The baselines of a run's machine and recipe, newest first, without the run itself.

    Unreadable baselines are skipped, since the user did not name them.
    """
    baselines = []
    for path in (root / FOLDER).glob("*/run.json"):
        with contextlib.suppress(BadFile):
            info = loading.read_info(path.parent)
            if info.id != run.id and _is_comparable(info, run):
                baselines.append((path.parent, info))
    return sorted(baselines, key=lambda pair: (pair[1].started, pair[0]), reverse=True)


def _is_comparable(a: RunInfo, b: RunInfo) -> bool:
    versions = [(info.recipe_sha256, info.calibration_version) for info in (a, b)]
    return versions[0] == versions[1] and is_same_machine(a.host, b.host)


def is_same_machine(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two hosts are the same; names are compared only if neither host is anonymous."""
    named = "hostname" in a and "hostname" in b
    try:
        keys = {machine_key(host, host["hostname"] if named else "") for host in (a, b)}
    except KeyError:
        return False
    return len(keys) == 1
