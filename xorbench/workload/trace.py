"""A training recorded step by step, by the recorder that listens to any training."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from torch import Tensor
from torch.utils.data import Dataset

from xorbench.plan.case import Case
from xorbench.plan.faults import FaultSpec
from xorbench.plan.recipe import Recipe
from xorbench.recorder.listen import Listener
from xorbench.recorder.options import LARGEST_VALUES, Options
from xorbench.recorder.sink import MemorySink
from xorbench.workload.faults import inject
from xorbench.workload.loop import Training
from xorbench.workload.xor import Batch

Numbered = tuple[Tensor, Tensor, int]
OPTIONS: Final = Options(
    detail=(0, 2**62), values_bytes=LARGEST_VALUES, operators=False, generators=False
)


@dataclass(frozen=True, slots=True)
class TracedEpoch:
    """An epoch as observed, and the line of each of its steps."""

    loss: float
    digest: str
    steps: list[dict[str, Any]]


def _without_values(events: list[list[Any]]) -> list[list[Any]]:
    return [
        [*event[:3], *({k: v for k, v in more.items() if k != "hex"} for more in event[3:])]
        for event in events
    ]


class _WithIndex(Dataset[Any]):
    """A data set that also says which sample it gives."""

    def __init__(self, data: Dataset[Batch]) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Numbered:
        points, label = self._data[index]
        return points, label, index


class Traced:
    """A training whose epochs can be recorded. It has the bits of the same training untraced.

    It listens from outside: behind the batches, at the network's layers, around the loss, and
    before and after the optimizer's step; faults are injected before, so that it sees what they do.
    """

    def __init__(self, case: Case, recipe: Recipe, faults: Sequence[FaultSpec] = ()) -> None:
        self._lines = MemorySink()
        self._listener = Listener(OPTIONS, lambda: self._lines)
        self._valued: range | None = None  # None while nothing is recorded
        self._kept: list[dict[str, Any]] = []

        def alter(training: Training) -> None:
            inject(training, faults)
            self._listen(training)

        self.training = Training(case, recipe, alter=alter)

    def record(self, valued: range = range(0)) -> TracedEpoch:
        """Train one epoch and record it, with the values of the steps in `valued`."""
        epoch, self._valued, self._lines.lines = self.training.epoch, valued, []
        self._listener.weights.name_again()
        try:
            trained = self.training.step()
        finally:
            self._valued = None
        steps = [
            {**line, "epoch": epoch, "step": step} for step, line in enumerate(self._lines.lines)
        ]
        return TracedEpoch(trained.loss, trained.digest, steps)

    def record_and_keep(self) -> TracedEpoch:
        """The same without values, which are kept here for `values`, as far as there is room."""
        recorded = self.record(range(sys.maxsize))
        self._kept = recorded.steps
        steps = [{**line, "events": _without_values(line["events"])} for line in self._kept]
        return replace(recorded, steps=steps)

    def values(self, steps: range) -> list[dict[str, Any]]:
        """These steps of the epoch that was kept, with the values of their tensors."""
        return self._kept[steps.start : steps.stop]

    def _told(self, work: Callable[..., None], *arguments: Any, **options: Any) -> None:
        if self._valued is not None:
            self._listener.shielded(lambda: work(*arguments, **options))

    def _listen(self, training: Training) -> None:
        spec, model, listener = training.spec, training.model, self._listener
        loss_of, tamper = spec.loss, spec.tamper
        listener.weights.built(spec.optimizer)

        def batches_told(batches: Iterable[Any]) -> Iterator[Batch]:
            numbered: Iterable[Any] = tamper(batches)
            for points, labels, order in numbered:
                self._told(self._begin, model, order)
                yield points, labels

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            value = loss_of(logits, labels)
            self._told(listener.tensor, "data", "labels", labels)
            self._told(listener.backward, value)
            return value

        def leave(part: Any, _inputs: Any, output: Any) -> None:
            self._told(listener.leave_call, part, {}, output, outermost=part is model)

        spec.data, spec.tamper, spec.loss = _WithIndex(spec.data), batches_told, loss
        model.register_forward_pre_hook(
            lambda _, inputs: self._told(listener.enter_call, model, inputs, gradients=True)
        )
        for part in model.modules():
            part.register_forward_hook(leave)
        optimizer = spec.optimizer
        optimizer.register_step_pre_hook(lambda *_: self._told(listener.before_step, optimizer))
        optimizer.register_step_post_hook(lambda *_: self._told(listener.after_step, optimizer))

    def _begin(self, model: Any, order: Tensor) -> None:
        """A batch has come: the step begins with the numbers of its samples."""
        self._listener.detail.keeping = len(self._lines.lines) in (self._valued or ())
        self._listener.begin()
        self._listener.watch(model)
        self._listener.tensor("data", "order", order)
