"""The processes of a run and their slots."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from xorbench.records.schema.golden import Golden
from xorbench.xor.matrix.case import ProcessConfig


class ProcessRecord(Struct, frozen=True, kw_only=True):
    """One process: its config, its peak memory, and the cause of its death, if it died.

    Its id begins with its slot. Each config has as many slots as processes; `index` counts them per
    config, from 0. A replacement for a dead process of slot `p0` is `p0.1`.
    """

    id: str
    config: ProcessConfig
    index: int
    machine: dict[str, Any]
    golden: dict[str, Golden] = {}  # by device
    opened_rss_bytes: int | None = None  # the peak once every training was initialized
    peak_rss_bytes: int | None = None
    died: str | None = None

    def __post_init__(self) -> None:
        missing = [name for name in DESCRIBED if name not in self.machine]
        if self.machine and missing:
            raise ValueError(f"the machine of process {self.id} lacks {', '.join(missing)}")


DESCRIBED: Final = ("torch_version", "python_version", "numpy_version", "threads", "cpu_capability")
"""The properties that every started process reports."""


def slot_of(process: str) -> str:
    """The slot of a process: `p0` of `p0.1`."""
    return process.partition(".")[0]


def process_order(process: str) -> tuple[int, ...]:
    """The sort key of processes, by number: `p2`, `p2.1`, `p10`."""
    return tuple(int(number) for number in process.removeprefix("p").split("."))


def slots(
    configs: Sequence[ProcessConfig], processes_per_config: int
) -> list[tuple[str, ProcessConfig, int]]:
    """Every slot of a run: its name, its config, and the index of its process in the config."""
    pairs = [(config, index) for index in range(processes_per_config) for config in configs]
    return [(f"p{number}", config, index) for number, (config, index) in enumerate(pairs)]
