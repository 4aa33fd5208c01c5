"""Time the phases of an epoch: waiting for data, copying, forward, backward, optimizer.

The epoch is that of `Training.step`, unchanged. While it runs, there are marks between the phases:
behind the batches, in front of the model, and around the optimizer's methods. At each mark the
device is synchronized and the clock is read.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch

from xorbench.xor.matrix.phases import MOST_SLOTS, PHASES
from xorbench.xor.training.engines import UnsupportedCase
from xorbench.xor.training.problem import Batch
from xorbench.xor.training.training import Training, synchronize

DIGITS: Final = 9  # of a second: no clock here has more
PER_STEP: Final = {"optimizer": 2}  # zero_grad and step; the other phases end once


@dataclass(frozen=True, slots=True)
class MarkedEpoch:
    """One epoch with marks: its seconds, those of each phase by slot, and the digest after it.

    A slot is a step, or some steps in a row where there are more than `MOST_SLOTS`; the last one is
    what follows the last step. `pinned` is how many of its `batches` the loader gave in page-locked
    memory, None where that was not asked for or there is no accelerator.
    """

    epoch_s: float
    phases_s: dict[str, list[float]]
    digest: str
    batches: int
    pinned: int | None


def marked_epoch(training: Training) -> MarkedEpoch:
    """Train one epoch with marks between its phases.

    Raises `UnsupportedCase` where a step of the epoch does not pass every mark: its phases are then
    not those of the loader engine's loop.
    """
    marks = Marks(training)
    with marks.set():
        epoch = training.step()
    marks.require_whole()
    phases_s = {name: [round(s, DIGITS) for s in slots] for name, slots in marks.seconds.items()}
    return MarkedEpoch(epoch.epoch_s, phases_s, epoch.digest, marks.batches, marks.pinned)


class Marks:
    """The marks of one epoch, and the seconds between them by phase."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._last = 0.0
        self._ends = dict.fromkeys(PHASES, 0)
        case = training.case
        self._steps = training.recipe.steps(case.batch_size, case.drop_last)
        self._slots = min(self._steps, MOST_SLOTS)
        self.seconds = {phase: [0.0] * (self._slots + 1) for phase in PHASES}
        self.batches = 0
        pins = case.pin_memory and torch.accelerator.is_available()
        self.pinned = 0 if pins else None

    @contextmanager
    def set(self) -> Iterator[None]:
        """Inside, an epoch of the training passes the marks."""
        spec = self._training.spec
        tamper = spec.tamper
        spec.tamper = lambda batches: self._fed(tamper(batches))
        hook = spec.model.register_forward_pre_hook(lambda *_: self._end("copy"))
        with ExitStack() as undo:
            undo.callback(setattr, spec, "tamper", tamper)
            undo.callback(hook.remove)
            undo.enter_context(self._around(spec.optimizer, "zero_grad", "forward"))
            undo.enter_context(self._around(spec.optimizer, "step", "backward"))
            yield

    def require_whole(self) -> None:
        """Raise `UnsupportedCase` unless every step has passed every mark."""
        expected = {phase: PER_STEP.get(phase, 1) * self.batches for phase in PHASES}
        if self._ends != expected | {"data": self.batches + 1}:
            raise UnsupportedCase(
                "the steps of this epoch do not pass the marks between its phases"
            )

    def _fed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; the time until each is there, and until there are no more, is data's."""
        self._begin()
        for batch in batches:
            self._end("data")
            self.batches += 1
            if self.pinned is not None:
                self.pinned += all(tensor.is_pinned() for tensor in batch)
            self._begin()
            yield batch
            self._begin()
        self._end("data")

    @contextmanager
    def _around(self, optimizer: Any, name: str, before: str) -> Iterator[None]:
        """A method of the optimizer ends the phase before it, and its own time is optimizer's."""
        own = vars(optimizer).get(name)
        method: Callable[..., Any] = getattr(optimizer, name)

        def marked(*arguments: Any, **options: Any) -> Any:
            self._end(before)
            result = method(*arguments, **options)
            self._end("optimizer")
            return result

        setattr(optimizer, name, marked)
        try:
            yield
        finally:
            delattr(optimizer, name)
            if own is not None:
                setattr(optimizer, name, own)

    def _begin(self) -> None:
        self._last = self._now()

    def _end(self, phase: str) -> None:
        now = self._now()
        slot = min(
            self._ends[phase] // PER_STEP.get(phase, 1) * self._slots // self._steps, self._slots
        )
        self.seconds[phase][slot] += now - self._last
        self._ends[phase] += 1
        self._last = now

    def _now(self) -> float:
        synchronize(self._training.device)
        return self._training.clock()
