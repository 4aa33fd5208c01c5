"""The end of a recorded run of a command: `ended.json` in its folder."""

import contextlib
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

from xorbench.errors import BadFile
from xorbench.recorder.masking import encodable, masked
from xorbench.records.files import write_whole
from xorbench.records.trace import PRESENCE, PresenceLine, TraceFile, presence, rank_of, recorded

LAST_LINES: Final = 10
TAIL_BYTES: Final = 65_536  # of the output of a run, to search for these lines
KILLED: Final = ("timeout", "abandoned")  # ends after which a record may be incomplete

HowEnded = Literal["ended", "stopped", "refused", "timeout", "abandoned"]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The end of a run, and its records, which are read once.

    Attributes:
        how: `ended` on its own, `stopped` after its steps, or `refused` by the system; or killed:
            after its `timeout`, or `abandoned` when its supervisor died.
        code: the exit code, negative for a signal; None if the run did not end on its own.
        left: the commands of processes that outlived the run and were killed.
        left_pids: their process ids.
        saved: the files that the run wrote in the working folder, by their paths in it.
    """

    number: int
    folder: Path
    how: HowEnded
    code: int | None
    wall_s: float
    left: list[str] = field(default_factory=list)
    left_pids: list[int] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    why: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "left", [encodable(masked(name)) for name in self.left])
        object.__setattr__(self, "why", encodable(masked(self.why)))

    @property
    def records(self) -> Path:
        """The folder of the records."""
        return self.folder / "records"

    @cached_property
    def traces(self) -> list[TraceFile]:
        """The traces of its processes, without empty ones."""
        return recorded(self.records)

    @property
    def trained(self) -> list[TraceFile]:
        """The traces of processes that made steps, by rank, then by start."""
        return sorted((trace for trace in self.traces if trace.has_steps), key=rank_of)

    @cached_property
    def presence(self) -> list[PresenceLine]:
        """The events of its interpreters."""
        return presence(self.records)

    def events(self, event: str) -> list[PresenceLine]:
        """The events of one kind."""
        return [line for line in self.presence if line.event == event]

    @property
    def lost_records(self) -> str:
        """The message about deleted records; empty if they exist."""
        if (self.records / PRESENCE).exists():
            return ""
        return f"the records were deleted during the run: {self.records}"

    @property
    def exit_text(self) -> str:
        """The exit code, or the signal that killed the run, as text."""
        code = self.code or 0
        return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"

    @property
    def refusal(self) -> str | None:
        """The reason why the target function could not be called; None otherwise."""
        path = self.records / "target.txt"
        return path.read_text() if path.exists() else None

    def last_lines(self, most: int = LAST_LINES) -> list[str]:
        """The last lines of standard error, or else of standard output, without secrets."""
        for name in ("stderr.txt", "stdout.txt"):
            with contextlib.suppress(OSError), (self.folder / name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))  # there may be gigabytes
                text = file.read().decode(errors="replace")
                if lines := [line for line in text.splitlines() if line.strip()]:
                    return [masked(line) for line in lines[-most:]]
        return []


_FIELDS: Final = ("number", "how", "code", "wall_s", "left", "left_pids", "saved", "why")


def write_ended(ended: Ended) -> None:
    """Write `ended.json` into the folder of the run."""
    values = {name: getattr(ended, name) for name in _FIELDS}
    write_whole(ended.folder / "ended.json", json.dumps(values).encode())


def read_ended(folder: Path) -> Ended:
    """Read `ended.json`; raises `BadFile` if it is damaged."""
    path = folder / "ended.json"
    try:
        return Ended(folder=folder, **json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise BadFile(f"{path}: damaged: {error}") from None
