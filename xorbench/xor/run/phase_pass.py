"""The pass after the timed epochs that times the phases of each case's epochs.

Each case is trained from its start, in its process, for a few epochs: a warm-up epoch, then
alternately an epoch with marks between its phases and an epoch without.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from xorbench.records.schema.phases import PhasesLine
from xorbench.records.schema.process import slot_of
from xorbench.records.schema.run import Run
from xorbench.runtime.process import OperationFailed, ProcessDied
from xorbench.runtime.slots import ActiveTraining, RunState
from xorbench.xor.matrix.phases import PHASES, inseparable, pass_epochs, schedule

Opening = Callable[[ActiveTraining], dict[str, Any]]


def unmeasured(run: Run) -> set[tuple[str, str]]:
    """Case id and slot of each finished training without its pass."""
    if not run.info.phases:
        return set()
    trained = {(t.case.id, slot_of(t.process)) for t in run.trainings if not inseparable(t.case)}
    return trained - {(line.case, slot_of(line.process)) for line in run.phases}


class PhasePass:
    """Times the phases of the trained cases of a run."""

    def __init__(self, state: RunState, opening: Opening) -> None:
        self._state, self._opening = state, opening
        self.left: list[ActiveTraining] = []
        self._timed: set[tuple[str, str]] = set()

    def add(self, training: ActiveTraining) -> None:
        """Add a finished training, unless an earlier part of the run timed its phases."""
        timed = inseparable(training.case) or training.key in self._timed
        if self._state.info.phases and not timed:
            self.left.append(training)

    def restore(self, run: Run) -> None:
        """Continue the pass of an earlier part of the run."""
        self._timed = {(line.case, slot_of(line.process)) for line in run.phases}
        left, cases = sorted(unmeasured(run)), {case.id: case for case in run.info.cases}
        for slot in self._state.slots:
            for case in (case for case, name in left if name == slot.name):
                self.add(ActiveTraining(cases[case], slot))

    def epochs_left(self) -> int:
        """The remaining epochs of the pass over the finished trainings."""
        return sum(pass_epochs(self._state.info.recipe, training.case) for training in self.left)

    def measure(self, training: ActiveTraining) -> None:
        """Time the phases of a training and record them as one line; raises `ProcessDied`."""
        if not training.slot.process or not training.slot.process.alive():
            self._record(training, failed="its process had ended")
            return
        try:
            values = self._trained(training)
        except OperationFailed as error:
            self._record(training, failed=str(error))
        except ProcessDied as death:
            self._record(training, failed=f"its process died: {death}")
            raise
        else:
            self._record(training, **values)

    def _trained(self, training: ActiveTraining) -> dict[str, Any]:
        """The fields of the line, from the epochs of the pass."""
        handle = training.slot.ask("open", **self._opening(training))["training"]
        answers = [
            (marked, training.slot.ask("marked step" if marked else "step", training=handle))
            for marked in schedule(self._state.info.recipe)
        ]
        training.slot.ask("close", training=handle)
        marked = [answer for is_marked, answer in answers if is_marked]
        pinned = [answer["pinned"] for answer in marked if answer["pinned"] is not None]
        return {
            "marked": [_times(answer) for answer in marked],
            "unmarked_epoch_s": [x["epoch_s"] for is_marked, x in answers if not is_marked],
            "digests": [answer["digest"] for _, answer in answers],
            "batches": sum(answer["batches"] for answer in marked),
            "pinned": sum(pinned) if pinned else None,
        }

    def _record(self, training: ActiveTraining, **values: Any) -> None:
        place = {"process": training.slot.process_id, "case": training.case.id}
        try:
            line = msgspec.convert(place | values, PhasesLine)
        except msgspec.ValidationError:  # an impossible time
            reason = "its process reported an impossible time"
            line = msgspec.convert({**place, "failed": reason}, PhasesLine)
        self._state.store.append("phases.jsonl", line)
        self._state.progress.advance(pass_epochs(self._state.info.recipe, training.case))


def _times(answer: dict[str, Any]) -> dict[str, Any]:
    phases = {f"{phase}_s": answer["phases_s"][phase] for phase in PHASES}
    return {"epoch_s": answer["epoch_s"], **phases}
