"""The state of a run: its slots, the process and trainings of each, and their records."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from xorbench.records.schema.golden import Float64Reference, epoch_digests_sha256
from xorbench.records.schema.process import ProcessRecord, slots
from xorbench.records.schema.run import RunInfo
from xorbench.records.schema.training import EpochLine, Failure, TrainingEnd
from xorbench.records.store import RunStore
from xorbench.runtime.process import OperationFailed, Process, ProcessDied
from xorbench.xor.matrix.case import Case, ProcessConfig
from xorbench.xor.matrix.faults import FaultSpec, read_fault
from xorbench.xor.matrix.phases import pass_epochs
from xorbench.xor.matrix.support import float64_key

StartProcess = Callable[[str, ProcessConfig], Process]


@dataclass(eq=False, slots=True)
class ActiveTraining:
    """A training in progress: its case, its slot, and its observations so far."""

    case: Case
    slot: "ProcessSlot"
    handle: int = 0
    inputs_sha256: str = ""
    startup_s: float | None = None  # of the first set-up in its process
    timed: list[EpochLine] = field(default_factory=list)
    warmup: list[EpochLine] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        """The id of its case and the name of its slot."""
        return self.case.id, self.slot.name

    @property
    def epochs_sha256(self) -> str:
        """The digest of the epoch digests recorded so far."""
        return epoch_digests_sha256([line.digest for line in self.timed])

    @property
    def float64_key(self) -> tuple[object, ...]:
        """The key of its line in `float64.jsonl`, shared by identical trainings."""
        return float64_key(self.case), self.epochs_sha256

    def float64_line(self, values: dict[str, Any]) -> Float64Reference:
        """The line of the training recomputed in float64."""
        place = {"process": self.slot.process_id, "case": self.case.id}
        key = {"key": float64_key(self.case), "epochs_sha256": self.epochs_sha256}
        return msgspec.convert({**place, **key, **values}, Float64Reference)

    def end_line(self, answer: dict[str, Any]) -> TrainingEnd:
        """The line of the finished training, from the answer to `finish`."""
        values = {
            **answer,
            "case": self.case,
            "process": self.slot.process_id,
            "config": self.slot.config.id,
            "inputs_sha256": self.inputs_sha256,
            "predictions": answer["test"]["predictions"],
            "reloaded_predictions": answer["reloaded_test"]["predictions"],
            "startup_s": self.startup_s,
        }
        return msgspec.convert(values, TrainingEnd)


@dataclass(eq=False, slots=True)
class ProcessSlot:
    """A slot for one process of a config: its current process and its unfinished trainings.

    `index` counts the processes of the config from 0. `optimizes` is true if the process will use
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
    calibrated: set[tuple[str, str]] = field(default_factory=set)  # in the current process
    ahead: tuple[str, dict[str, Any]] | None = None  # an unanswered request

    @property
    def process_id(self) -> str:
        """The id of the current process: the slot's name and the number of the restart."""
        return self.name if self.starts <= 1 else f"{self.name}.{self.starts - 1}"

    def launch(self, start: StartProcess) -> None:
        """Start a process for this slot and request its config; `configured` waits for it."""
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
        """Request an operation and wait; raises `ProcessDied` or `OperationFailed`."""
        if self.process is None:
            raise ProcessDied("it could not be started")
        ahead, self.ahead = self.ahead, None
        if ahead == (op, args):
            return self.process.answer()
        if ahead is not None:  # its answer is no longer needed
            with suppress(OperationFailed):
                self.process.answer()
        return self.process.ask(op, **args)

    def ask_ahead(self, op: str, **args: Any) -> None:
        """Request an operation without waiting; an identical next `ask` takes the answer."""
        if self.process is not None and self.process.alive():
            self.process.post(op, **args)
            self.ahead = (op, args)

    def configured(self) -> None:
        """Wait until the process has its config, and store its machine."""
        if self.process is None:
            raise ProcessDied("it could not be started")
        answer = self.process.answer()
        self.machine, self.calibration_version = answer["machine"], answer["calibration_version"]

    def kill(self) -> None:
        """End the process and its children at once."""
        if self.process:
            with suppress(OSError):
                self.process.kill()


def make_slots(
    configs: Sequence[ProcessConfig],
    processes_per_config: int,
    faults: Sequence[str] = (),
    *,
    optimizes: bool = False,
) -> list[ProcessSlot]:
    """The empty slots of a run, one for each process of each config; `faults` are texts."""
    injected = [fault for fault in map(read_fault, faults) if fault.kind == "process"]
    return [
        ProcessSlot(*row, faults=injected, optimizes=optimizes)
        for row in slots(configs, processes_per_config)
    ]


class Progress:
    """Receives the progress of a run; the base class shows nothing."""

    def begin(self, epochs: int) -> None:
        """Start with the number of epochs to train, including warm-up epochs."""

    def advance(self, epochs: int) -> None:
        """Add a number of epochs that are done or no longer needed."""

    def note(self, text: str) -> None:
        """Show a message to the user."""

    def end(self) -> None:
        """Finish at the end or interruption of the run."""


class RunState:
    """The slots of a run and their results; every change is written at once."""

    def __init__(
        self, info: RunInfo, store: RunStore, slots: Sequence[ProcessSlot], progress: Progress
    ) -> None:
        self.info, self.store, self.slots, self.progress = info, store, slots, progress
        self._processes = {process.id: process for process in info.processes}
        for slot in slots:
            self.register(slot)

    def active(self) -> list[ActiveTraining]:
        """The trainings that have not ended."""
        return [training for slot in self.slots for training in slot.active]

    def unfinished(self) -> list[ActiveTraining]:
        """The active trainings with epochs left."""
        epochs = self.info.recipe.epochs
        return [training for training in self.active() if len(training.timed) < epochs]

    def epochs_left(self, training: ActiveTraining) -> int:
        """The epochs left for this training, including the pass for its phases."""
        warmup = 0 if training.timed else self.info.warmup_epochs - len(training.warmup)
        phases = pass_epochs(self.info.recipe, training.case) if self.info.phases else 0
        return warmup + self.info.recipe.epochs - len(training.timed) + phases

    def fail(self, training: ActiveTraining, reason: str, check: str = "completion") -> None:
        """Record that a training failed, and the reason."""
        self.progress.note(f"{training.case.id}: {reason}")
        self.progress.advance(self.epochs_left(training))
        failure = Failure(
            case=training.case,
            process=training.slot.process_id,
            config=training.slot.config.id,
            epochs=len(training.timed),
            failed=reason,
            check=check,
        )
        self.store.append("results.jsonl", failure)
        training.slot.active.remove(training)

    def fail_all(self, slot: ProcessSlot, reason: str) -> None:
        """Record that every training of a slot failed."""
        for training in list(slot.active):
            self.fail(training, reason)

    def record(self, slot: ProcessSlot) -> ProcessRecord:
        """The record of the current or last process of a slot."""
        return self._processes.get(slot.process_id) or _fresh(slot)

    def register(self, slot: ProcessSlot) -> None:
        """Record a fresh process."""
        self._processes[slot.process_id] = _fresh(slot)
        self.write_info()

    def update(self, slot: ProcessSlot, **fields: Any) -> None:
        """Change the record of a slot's process; the next `write_info` writes it."""
        self._processes[slot.process_id] = msgspec.structs.replace(self.record(slot), **fields)

    def note_death(self, slot: ProcessSlot, reason: str) -> None:
        """Record the cause of death of the slot's process."""
        self.update(slot, died=reason)
        self.write_info()

    def retire(self, slot: ProcessSlot) -> None:
        """Request the peak memory, then stop the process."""
        if slot.process is None or not slot.process.alive():
            return
        try:
            usage = slot.ask("usage")
        except (ProcessDied, OperationFailed) as error:
            self.note_death(slot, str(error))
        else:
            self.update(slot, **usage)
        slot.process.stop()

    def write_info(self, **fields: Any) -> None:
        """Write `run.json`."""
        processes = list(self._processes.values())
        self.info = msgspec.structs.replace(self.info, processes=processes, **fields)
        self.store.write_info(self.info)


def _fresh(slot: ProcessSlot) -> ProcessRecord:
    return ProcessRecord(
        id=slot.process_id, config=slot.config, index=slot.index, machine=slot.machine
    )
