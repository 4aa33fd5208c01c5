"""Recovery after a death: the case that killed the process fails, the others continue."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from xorbench.machine.golden_answers import require_working
from xorbench.runtime.process import OperationFailed, ProcessDied
from xorbench.runtime.slots import ActiveTraining, ProcessSlot, RunState, StartProcess

KILLS_ALLOWED: Final = 2  # processes that a case may kill before it is given up
IDLE_DEATHS_ALLOWED: Final = 3  # deaths of idle processes in one slot


class ImpossibleTime(OperationFailed):
    """A process reports an impossible time; the message names it."""


def check_of(error: OperationFailed) -> str:
    """The check that fails with this error."""
    return "clock" if isinstance(error, ImpossibleTime) else "completion"


class Recovery:
    """Sends requests to the processes of a run, and replaces processes that die.

    Attributes:
        blamed: the training whose request a process is working on; None outside `attempt`, so a
            death then blames no case.
    """

    def __init__(
        self, state: RunState, start: StartProcess, reopen: Callable[[ProcessSlot], None]
    ) -> None:
        self._state, self._start, self._reopen = state, start, reopen
        self._kills: Counter[str] = Counter()
        self.blamed: ActiveTraining | None = None

    def ask(self, training: ActiveTraining, op: str, /, **args: Any) -> dict[str, Any]:
        """Send a request to a training's process; the training is to blame for a death."""
        self.blamed = training
        return training.slot.ask(op, **args)

    def attempt(self, training: ActiveTraining, act: Callable[[Any], object]) -> None:
        """Call `act`; if the operation fails, the case fails and the process continues."""
        try:
            act(training)
        except OperationFailed as error:
            require_working(training.slot, training.case.device, str(error))
            self._state.fail(training, str(error), check_of(error))
        self.blamed = None

    def guarded(self, slot: ProcessSlot, act: Callable[[Any], object], target: Any) -> None:
        """Call `act`; if the process dies, replace it and continue with the other cases."""
        try:
            if isinstance(target, ActiveTraining):
                self.attempt(target, act)
            else:
                act(target)
        except OperationFailed as error:
            self._state.fail_all(slot, str(error))
        except ProcessDied as death:
            self._record_death(slot, death)
            self._restart(slot)

    def _record_death(self, slot: ProcessSlot, death: ProcessDied) -> None:
        """Record the death, and fail the case that the process was busy with."""
        self._state.note_death(slot, str(death))
        training, self.blamed = self.blamed, None
        if training is None or training not in slot.active:
            slot.idle_deaths += 1
            return
        self._state.fail(training, f"process {slot.process_id} died: {death}")
        self._kills[training.case.id] += 1
        if self._kills[training.case.id] >= KILLS_ALLOWED:
            for active in [x for x in self._state.active() if x.case == training.case]:
                self._state.fail(
                    active, f"not tried again: it has killed {KILLS_ALLOWED} processes"
                )

    def _restart(self, slot: ProcessSlot) -> None:
        """Fill the slot with a fresh process and reopen its trainings, until that succeeds."""
        while slot.active:
            if slot.idle_deaths > IDLE_DEATHS_ALLOWED:
                reason = f"its process died {slot.idle_deaths} times while idle"
                self._state.fail_all(slot, reason)
                return
            try:
                slot.launch(self._start)
                slot.configured()
                self._state.register(slot)
                self._fail_without_device(slot)
                self._reopen(slot)
                return
            except OperationFailed as error:
                self._state.fail_all(slot, str(error))
            except ProcessDied as death:
                self._record_death(slot, death)

    def _fail_without_device(self, slot: ProcessSlot) -> None:
        """Fail the cases whose device does not work in a fresh process either."""
        devices = list(dict.fromkeys(training.case.device for training in slot.active))
        reasons = slot.ask("probe", devices=devices)
        for training in list(slot.active):
            if reason := reasons[training.case.device]:
                self._state.fail(training, reason)
