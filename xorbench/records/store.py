"""Writes the folder of a run."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from xorbench.errors import BadFile, BadOption, why
from xorbench.records.files import append_line, drop_cut_line, locked, write_whole
from xorbench.records.folders import named, new_folder
from xorbench.records.loading import LINES, RESULTS, read_info, read_kind
from xorbench.records.redaction import without_names
from xorbench.records.schema.line import Line
from xorbench.records.schema.run import RunInfo
from xorbench.records.schema.sweep import SweepInfo

BYTES_PER_EPOCH: Final = 1_400  # with calibrations, in a process with one training
BYTES_PER_SEED: Final = 100
SPARE_BYTES: Final = 8 * 2**20


class RunStore:
    """Writes one run's folder; every line is written before the next epoch begins."""

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
        self._is_run = is_run  # a new folder becomes a run with its run.json
        self._lock = locked(folder) if lock else None

    def write_info(self, info: RunInfo) -> None:
        """Write `run.json`, whole or not at all."""
        self.write_json("run.json", info)

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file, whole or not at all; without paths if the run is anonymous."""
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
        line = self._encoded(msgspec.structs.replace(record, run=self.run))
        append_line(self.folder / name, line)

    def log_path(self, process: str) -> Path:
        """The file for a process's standard output and error."""
        return self.folder / "logs" / f"{process}.log"

    def close(self) -> None:
        """Release the lock, and remove a folder that never became a run."""
        if not self._is_run:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()

    def clean_logs(self) -> None:
        """Remove paths from the logs of ended processes, if the run is anonymous."""
        if self.anonymous:
            for log in (self.folder / "logs").glob("*.log"):
                self.write_text(f"logs/{log.name}", without_names(log.read_text(errors="replace")))

    def _encoded(self, value: object) -> bytes:
        """The value as JSON, without names if the run is anonymous, so that reports have none."""
        if self.anonymous:
            value = without_names(msgspec.to_builtins(value))
        return msgspec.json.encode(value)


def create(root: Path, name: str | None, size_bytes: int, *, anonymous: bool) -> RunStore:
    """Make a new run folder in `root/runs`; raises `BadOption` if the run does not fit."""
    runs = root / "runs"
    _refuse_taken(runs, name)
    try:
        if (latest := root / "latest").is_dir() and not latest.is_symlink():
            why_not = "is a folder, not a link to the newest run"
            raise BadOption(f"--out: {latest} {why_not}", "move it away")
        runs.mkdir(parents=True, exist_ok=True)
        needed = size_bytes + SPARE_BYTES
        free = shutil.disk_usage(runs).free
        if free < needed:
            raise BadOption(
                f"--out: {root} has {free / 2**20:.0f} MiB free, the run needs {needed / 2**20:.0f}"
            )
        folder = new_folder(runs)
        (folder / "logs").mkdir()
    except OSError as error:
        raise BadOption(f"--out: cannot write to {root}: {why(error)}") from None
    return RunStore(folder, anonymous=anonymous, is_run=False)


def _refuse_taken(runs: Path, name: str | None) -> None:
    if name and any(taken == name for _, taken in named(runs)):
        hint = "choose another name"
        raise BadOption(f"--name: {name!r} already names a run in {runs.parent}", hint)


def reopen(folder: Path) -> RunStore:
    """Reopen an unfinished run; a line truncated by a crash is removed."""
    return _reopened(folder, read_info(folder), [*LINES.values(), RESULTS])


def reopen_sweep(folder: Path) -> RunStore:
    """Reopen an unfinished sweep; a line truncated by a crash is removed."""
    return _reopened(folder, read_kind(folder, SweepInfo), ("chunks.jsonl",))


def _reopened(folder: Path, info: RunInfo | SweepInfo, names: Sequence[str]) -> RunStore:
    if packed := sorted(folder.glob("*.jsonl.gz")):
        raise BadFile(f"{packed[0]}: compressed, so lines cannot be added", "gunzip it first")
    store = RunStore(folder, run=info.id, anonymous=info.anonymous)
    for name in names:
        drop_cut_line(folder / name)
    return store
