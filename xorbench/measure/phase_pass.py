"""The pass that times the phases of each case's epochs, when all timed epochs are done.

Each case is trained from its start, in the process that trained it, for a few epochs: a first one
to warm up, then in turn one with marks between its phases and one as it is timed elsewhere.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from xorbench.measure.process import OperationFailed, ProcessDied
from xorbench.measure.run_state import RunState
from xorbench.measure.slots import ActiveTraining
from xorbench.observe.records.phases import PhasesLine
from xorbench.observe.records.process import slot_of
from xorbench.observe.records.run import Run
from xorbench.plan.phases import PHASES, inseparable, pass_epochs, schedule

Opening = Callable[[ActiveTraining], dict[str, Any]]


def unmeasured(run: Run) -> set[tuple[str, str]]:
    """Case id and slot of each training of a run that is finished and whose pass is to come."""
    if not run.info.phases:
        return set()
    trained = {
        (one.case.id, slot_of(one.process)) for one in run.trainings if not inseparable(one.case)
    }
    return trained - {(line.case, slot_of(line.process)) for line in run.phases}


def _key(one: ActiveTraining) -> tuple[str, str]:
    return one.case.id, one.slot.name


class PhasePass:
    """The trained cases of a run whose phases are to be timed."""

    def __init__(self, state: RunState, opening: Opening) -> None:
        self._state, self._opening = state, opening
        self.left: list[ActiveTraining] = []
        self._timed: set[tuple[str, str]] = set()

    def add(self, one: ActiveTraining) -> None:
        """A training has finished, whose phases no earlier part of the run has timed."""
        if self._state.info.phases and not inseparable(one.case) and _key(one) not in self._timed:
            self.left.append(one)

    def restore(self, run: Run) -> None:
        """Learn which passes an earlier part of the run has recorded."""
        self._timed = {(line.case, slot_of(line.process)) for line in run.phases}

    def to_do(self) -> int:
        """Epochs that the pass over the finished trainings still takes."""
        return sum(pass_epochs(self._state.info.recipe, one.case) for one in self.left)

    def measure(self, one: ActiveTraining) -> None:
        """Time the phases of a training and record them as one line; raises `ProcessDied`."""
        if not one.slot.process or not one.slot.process.alive():
            self._record(one, failed="its process had ended")
            return
        try:
            values = self._trained(one)
        except OperationFailed as error:
            self._record(one, failed=str(error))
        except ProcessDied as death:
            self._record(one, failed=f"its process died: {death}")
            raise
        else:
            self._record(one, **values)

    def _trained(self, one: ActiveTraining) -> dict[str, Any]:
        """The fields of the line, from the epochs of the pass."""
        handle = one.slot.ask("open", **self._opening(one))["training"]
        answers = [
            (marked, one.slot.ask("marked step" if marked else "step", training=handle))
            for marked in schedule(self._state.info.recipe)
        ]
        one.slot.ask("close", training=handle)
        marked = [answer for is_marked, answer in answers if is_marked]
        pinned = [answer["pinned"] for answer in marked if answer["pinned"] is not None]
        return {
            "marked": [_times(answer) for answer in marked],
            "unmarked_epoch_s": [x["epoch_s"] for is_marked, x in answers if not is_marked],
            "digests": [answer["digest"] for _, answer in answers],
            "batches": sum(answer["batches"] for answer in marked),
            "pinned": sum(pinned) if pinned else None,
        }

    def _record(self, one: ActiveTraining, **values: Any) -> None:
        place = {"process": one.slot.process_id, "case": one.case.id}
        try:
            line = msgspec.convert(place | values, PhasesLine)
        except msgspec.ValidationError:  # a time that no clock can show
            reason = "its process reported an impossible time"
            line = msgspec.convert({**place, "failed": reason}, PhasesLine)
        self._state.store.append("phases.jsonl", line)
        self._state.progress.advance(pass_epochs(self._state.info.recipe, one.case))


def _times(answer: dict[str, Any]) -> dict[str, Any]:
    phases = {f"{phase}_s": answer["phases_s"][phase] for phase in PHASES}
    return {"epoch_s": answer["epoch_s"], **phases}
