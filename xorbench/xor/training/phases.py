"""Time the phases of an epoch: waiting for data, copying, forward, backward, optimizer.

The epoch runs in `Training.step` without changes. Marks separate the phases: after each batch,
before the model, and around the optimizer's methods. Each mark synchronizes the device and reads
the clock.
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

DIGITS: Final = 9  # decimals of a second, the resolution of clocks
PER_STEP: Final = {"optimizer": 2}  # zero_grad and step; other phases end once


@dataclass(frozen=True, slots=True)
class MarkedEpoch:
    """One epoch with marks: its seconds, the seconds of each phase by slot, and its digest.

    A slot is a step, or several steps if there are more than `MOST_SLOTS`; the last slot follows
    the last step. `pinned` is the number of `batches` in page-locked memory, None without
    `pin_memory` or an accelerator.
    """

    epoch_s: float
    phases_s: dict[str, list[float]]
    digest: str
    batches: int
    pinned: int | None


def marked_epoch(training: Training) -> MarkedEpoch:
    """Train one epoch with marks between its phases.

    Raises `UnsupportedCase` if a step does not pass every mark, since its phases then differ from
    the loader engine's.
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
        """Set the marks for an epoch of the training within the context."""
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
        """Raise `UnsupportedCase` unless every step passed every mark."""
        expected = {phase: PER_STEP.get(phase, 1) * self.batches for phase in PHASES}
        if self._ends != expected | {"data": self.batches + 1}:
            raise UnsupportedCase(
                "the steps of this epoch do not pass the marks between its phases"
            )

    def _fed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches; the time until each batch, and until the end, belongs to `data`."""
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
        """Mark a method of the optimizer: it ends the phase before it and counts as `optimizer`."""
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
