"""How a recorded run of a command ended: `ended.json` in its folder."""

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
from xorbench.records.trace import PRESENCE, PresenceLine, TraceFile, presence, recorded

LAST_LINES: Final = 10
TAIL_BYTES: Final = 65_536  # of what a run wrote, in which these lines are looked for
KILLED: Final = ("timeout", "abandoned")  # how a run ends whose record may stop anywhere

HowEnded = Literal["ended", "stopped", "refused", "timeout", "abandoned"]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended, and its records, which are read once.

    Attributes:
        how: `ended` by itself, `stopped` after its steps, `refused` by the system; or killed: after
            its `timeout`, or `abandoned` with the program that watched it.
        code: the exit code, negative for a signal; None where it did not end by itself.
        left: the commands of processes that outlived it, and were killed.
        left_pids: the process ids of these.
        saved: the files in the working folder that it has written, by their paths there.
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
        """The traces of its processes that have recorded something."""
        return recorded(self.records)

    @cached_property
    def presence(self) -> list[PresenceLine]:
        """The events of its interpreters."""
        return presence(self.records)

    def events(self, event: str) -> list[PresenceLine]:
        """The events of one kind."""
        return [line for line in self.presence if line.event == event]

    @property
    def lost_records(self) -> str:
        """That the program has deleted its records, in words; empty where it has not."""
        if (self.records / PRESENCE).exists():
            return ""
        return f"the records were deleted during the run: {self.records}"

    @property
    def exit_text(self) -> str:
        """The exit code, or the signal that killed it, in words."""
        code = self.code or 0
        return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"

    @property
    def refusal(self) -> str | None:
        """Why the function that was to be called cannot be; None where it was, or a command ran."""
        path = self.records / "target.txt"
        return path.read_text() if path.exists() else None

    def last_lines(self, most: int = LAST_LINES) -> list[str]:
        """The end of the standard error of the run, or else of its output, without secrets."""
        for name in ("stderr.txt", "stdout.txt"):
            with contextlib.suppress(OSError), (self.folder / name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))  # there may be gigabytes
                text = file.read().decode(errors="replace")
                if lines := [line for line in text.splitlines() if line.strip()]:
                    return [masked(line) for line in lines[-most:]]
        return []


_FIELDS: Final = ("number", "how", "code", "wall_s", "left", "left_pids", "saved", "why")


def write_ended(ended: Ended) -> None:
    """Write it into the folder of the run."""
    values = {name: getattr(ended, name) for name in _FIELDS}
    write_whole(ended.folder / "ended.json", json.dumps(values).encode())


def read_ended(folder: Path) -> Ended:
    """What `write_ended` wrote; raises `BadFile` where it is damaged."""
    path = folder / "ended.json"
    try:
        return Ended(folder=folder, **json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise BadFile(f"{path}: damaged: {error}") from None
