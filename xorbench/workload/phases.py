"""Time the phases of an epoch: waiting for data, copying, forward, backward, optimizer.

The epoch is that of `Training.step`, unchanged. While it runs, there are marks between the phases:
behind the batches, in front of the model, and around the optimizer's methods. At each mark the
device is synchronized and the clock is read.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from xorbench.plan.phases import PHASES
from xorbench.workload.engines import CannotHonour
from xorbench.workload.loop import Training, synchronize
from xorbench.workload.xor import Batch


@dataclass(frozen=True, slots=True)
class MarkedEpoch:
    """One epoch with marks: seconds of the epoch and of each phase, and the digest after it.

    `pinned` is how many of its `batches` the loader gave in page-locked memory, None where that was
    not asked for or there is no accelerator.
    """

    epoch_s: float
    phases_s: dict[str, float]
    digest: str
    batches: int
    pinned: int | None


def marked_epoch(training: Training) -> MarkedEpoch:
    """Train one epoch with marks between its phases.

    Raises `CannotHonour` where a step of the epoch does not pass every mark: its phases are then
    not those of the loader engine's loop.
    """
    marks = Marks(training)
    with marks.set():
        epoch = training.step()
    marks.require_whole()
    return MarkedEpoch(epoch.epoch_s, marks.seconds, epoch.digest, marks.batches, marks.pinned)


class Marks:
    """The marks of one epoch, and the seconds between them by phase."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._last = 0.0
        self._ends = dict.fromkeys(PHASES, 0)
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.batches = 0
        pins = training.case.pin_memory and torch.accelerator.is_available()
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
        """Raise `CannotHonour` unless every step has passed every mark."""
        steps = self.batches
        expected = {"data": steps + 1, "optimizer": 2 * steps}
        if self._ends != {phase: expected.get(phase, steps) for phase in PHASES}:
            raise CannotHonour("the steps of this epoch do not pass the marks between its phases")

    def _fed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; the time until each is there, and until there are no more, is data's."""
        self._begin()
        for batch in batches:
            self._end("data")
            self._look(batch)
            self._begin()
            yield batch
            self._begin()
        self._end("data")

    def _look(self, batch: Batch) -> None:
        self.batches += 1
        if self.pinned is not None:
            self.pinned += all(tensor.is_pinned() for tensor in batch)

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
        self.seconds[phase] += now - self._last
        self._ends[phase] += 1
        self._last = now

    def _now(self) -> float:
        synchronize(self._training.device)
        return self._training.clock()
