"""The places of a run: which process fills each, and which trainings stand open in it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from xorbench.measure.process import OperationFailed, Process, ProcessDied
from xorbench.observe.records.process import slots
from xorbench.observe.records.training import EpochLine
from xorbench.plan.case import Case, ProcessConfig
from xorbench.plan.faults import FaultSpec, read_fault

StartProcess = Callable[[str, ProcessConfig], Process]


@dataclass(eq=False, slots=True)
class ActiveTraining:
    """A training in progress: its case, its slot, and all that was observed of it so far."""

    case: Case
    slot: "ProcessSlot"
    handle: int = 0
    inputs_sha256: str = ""
    startup_s: float | None = None  # of the first opening in its process
    timed: list[EpochLine] = field(default_factory=list)
    warmup: list[EpochLine] = field(default_factory=list)

    @property
    def epoch_digests(self) -> list[str]:
        """The digests recorded so far."""
        return [line.digest for line in self.timed]


@dataclass(eq=False, slots=True)
class ProcessSlot:
    """A place for one process of a config: who fills it now, and its trainings still to be done.

    `index` is that of the process under its config, from 0; `optimizes` says that it will train by
    an optimizer of PyTorch.
    """

    name: str
    config: ProcessConfig
    index: int
    optimizes: bool = False
    starts: int = 0
    idle_deaths: int = 0
    process: Process | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    calibration_version: int = 0
    faults: list[FaultSpec] = field(default_factory=list)
    active: list[ActiveTraining] = field(default_factory=list)
    calibrated: set[tuple[str, str]] = field(default_factory=set)  # since the process began
    ahead: tuple[str, dict[str, Any]] | None = None  # what was asked and is not yet answered

    @property
    def process_id(self) -> str:
        """The present process's id: the slot's name, and which restart it is."""
        return self.name if self.starts <= 1 else f"{self.name}.{self.starts - 1}"

    def launch(self, start: StartProcess) -> None:
        """Start a process for this slot and have it configured; `configured` then waits for it."""
        self.starts += 1
        self.calibrated.clear()
        self.ahead = None
        self.process = start(self.process_id, self.config)
        self.process.post(
            "configure",
            deterministic=self.config.deterministic,
            threads=self.config.threads,
            faults=[fault.to_dict() for fault in self.faults],
            optimizes=self.optimizes,
        )

    def ask(self, op: str, **args: Any) -> dict[str, Any]:
        """Ask this slot's process; raises `ProcessDied` or `OperationFailed`."""
        if self.process is None:
            raise ProcessDied("it could not be started")
        ahead, self.ahead = self.ahead, None
        if ahead == (op, args):
            return self.process.answer()
        if ahead is not None:  # nobody wants to know that any more
            with suppress(OperationFailed):
                self.process.answer()
        return self.process.ask(op, **args)

    def ask_ahead(self, op: str, **args: Any) -> None:
        """Ask and do not wait: the next `ask` takes the answer if it asks the same."""
        if self.process is not None and self.process.alive():
            self.process.post(op, **args)
            self.ahead = (op, args)

    def configured(self) -> None:
        """Wait until the process is under its config, and keep what machine it found."""
        if self.process is None:
            raise ProcessDied("it could not be started")
        answer = self.process.answer()
        self.machine, self.calibration_version = answer["machine"], answer["calibration_version"]


def make_slots(
    configs: Sequence[ProcessConfig],
    processes_per_config: int,
    faults: Sequence[str] = (),
    *,
    optimizes: bool = False,
) -> list[ProcessSlot]:
    """The empty slots of a run, for every process of every config; `faults` are texts."""
    injected = [fault for fault in map(read_fault, faults) if fault.kind == "process"]
    return [
        ProcessSlot(*row, faults=injected, optimizes=optimizes)
        for row in slots(configs, processes_per_config)
    ]
