"""The state of a run: its slots, the process and the trainings in each, and their records."""

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
    startup_s: float | None = None  # of the first opening in its process
    timed: list[EpochLine] = field(default_factory=list)
    warmup: list[EpochLine] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        """The id of its case and the name of its slot."""
        return self.case.id, self.slot.name

    @property
    def epochs_sha256(self) -> str:
        """One digest of the epoch digests recorded so far."""
        return epoch_digests_sha256([line.digest for line in self.timed])

    @property
    def float64_key(self) -> tuple[object, ...]:
        """The key of its line in `float64.jsonl`, which equal trainings share."""
        return float64_key(self.case), self.epochs_sha256

    def float64_line(self, values: dict[str, Any]) -> Float64Reference:
        """The line of the training recomputed in double precision."""
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
    ahead: tuple[str, dict[str, Any]] | None = None  # a request that is not yet answered

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
        if ahead is not None:  # its answer is no longer needed
            with suppress(OperationFailed):
                self.process.answer()
        return self.process.ask(op, **args)

    def ask_ahead(self, op: str, **args: Any) -> None:
        """Ask and do not wait: the next `ask` takes the answer if it asks the same."""
        if self.process is not None and self.process.alive():
            self.process.post(op, **args)
            self.ahead = (op, args)

    def configured(self) -> None:
        """Wait until the process is under its config, and keep its machine."""
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
    """The empty slots of a run, for every process of every config; `faults` are texts."""
    injected = [fault for fault in map(read_fault, faults) if fault.kind == "process"]
    return [
        ProcessSlot(*row, faults=injected, optimizes=optimizes)
        for row in slots(configs, processes_per_config)
    ]


class Progress:
    """Receives the progress of a run; this one shows nothing."""

    def begin(self, epochs: int) -> None:
        """The run has this many epochs to go, warm-up included."""

    def advance(self, epochs: int) -> None:
        """So many epochs are done, or need no longer be done."""

    def note(self, text: str) -> None:
        """Something the user should know now."""

    def end(self) -> None:
        """The run has ended, or is interrupted."""


class RunState:
    """The slots of a run and what they have come to; what changes is written at once."""

    def __init__(
        self, info: RunInfo, store: RunStore, slots: Sequence[ProcessSlot], progress: Progress
    ) -> None:
        self.info, self.store, self.slots, self.progress = info, store, slots, progress
        self._processes = {process.id: process for process in info.processes}
        for slot in slots:
            self.register(slot)

    def active(self) -> list[ActiveTraining]:
        """The trainings that are not at their end."""
        return [training for slot in self.slots for training in slot.active]

    def unfinished(self) -> list[ActiveTraining]:
        """Those that have epochs to go."""
        epochs = self.info.recipe.epochs
        return [training for training in self.active() if len(training.timed) < epochs]

    def epochs_left(self, training: ActiveTraining) -> int:
        """Epochs that this training still has to go, those of the pass for its phases included."""
        warmup = 0 if training.timed else self.info.warmup_epochs - len(training.warmup)
        phases = pass_epochs(self.info.recipe, training.case) if self.info.phases else 0
        return warmup + self.info.recipe.epochs - len(training.timed) + phases

    def fail(self, training: ActiveTraining, reason: str, check: str = "completion") -> None:
        """Record that a training is lost, and why."""
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
        """Record that every training of a slot is lost."""
        for training in list(slot.active):
            self.fail(training, reason)

    def record(self, slot: ProcessSlot) -> ProcessRecord:
        """The record of the process that fills a slot, or filled it last."""
        return self._processes.get(slot.process_id) or _fresh(slot)

    def register(self, slot: ProcessSlot) -> None:
        """Record a fresh process."""
        self._processes[slot.process_id] = _fresh(slot)
        self.write_info()

    def update(self, slot: ProcessSlot, **fields: Any) -> None:
        """Change the record of a slot's process; it is written with the next `write_info`."""
        self._processes[slot.process_id] = msgspec.structs.replace(self.record(slot), **fields)

    def note_death(self, slot: ProcessSlot, reason: str) -> None:
        """Record what the slot's process died of."""
        self.update(slot, died=reason)
        self.write_info()

    def retire(self, slot: ProcessSlot) -> None:
        """Ask for the peak memory, then let the process go."""
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
