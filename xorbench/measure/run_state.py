"""How far a run is: its slots, their open trainings, and the records of its processes."""

from collections.abc import Sequence
from typing import Any

import msgspec

from xorbench.measure.process import OperationFailed, ProcessDied
from xorbench.measure.slots import ActiveTraining, ProcessSlot
from xorbench.observe.records.process import ProcessRecord
from xorbench.observe.records.run import RunInfo
from xorbench.observe.records.training import Failure
from xorbench.observe.store import RunStore
from xorbench.plan.phases import pass_epochs


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
        return [one for slot in self.slots for one in slot.active]

    def unfinished(self) -> list[ActiveTraining]:
        """Those that have epochs to go."""
        epochs = self.info.recipe.epochs
        return [one for one in self.active() if len(one.timed) < epochs]

    def to_do(self, one: ActiveTraining) -> int:
        """Epochs that this training still has to go, those of the pass for its phases included."""
        warmup = 0 if one.timed else self.info.warmup_epochs - len(one.warmup)
        phases = pass_epochs(self.info.recipe, one.case) if self.info.phases else 0
        return warmup + self.info.recipe.epochs - len(one.timed) + phases

    def fail(self, one: ActiveTraining, reason: str, check: str = "completion") -> None:
        """Record that a training is lost, and why."""
        self.progress.note(f"{one.case.id}: {reason}")
        self.progress.advance(self.to_do(one))
        failure = Failure(
            case=one.case,
            process=one.slot.process_id,
            config=one.slot.config.id,
            epochs=len(one.timed),
            failed=reason,
            check=check,
        )
        self.store.append("results.jsonl", failure)
        one.slot.active.remove(one)

    def fail_all(self, slot: ProcessSlot, reason: str) -> None:
        """Record that every training of a slot is lost."""
        for one in list(slot.active):
            self.fail(one, reason)

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
