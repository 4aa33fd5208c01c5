"""A training recorded step by step by the recorder."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor
from torch.utils.data import Dataset

from xorbench.recorder.listen import Listener
from xorbench.recorder.options import LARGEST_VALUES, Options
from xorbench.recorder.sink import MemorySink
from xorbench.xor.matrix.case import Case
from xorbench.xor.matrix.faults import FaultSpec
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.training.faults import inject
from xorbench.xor.training.problem import Batch
from xorbench.xor.training.training import Training

OPTIONS: Final = Options(
    detail=(0, 2**62), values_bytes=LARGEST_VALUES, operators=False, generators=False
)


@dataclass(frozen=True, slots=True)
class TracedEpoch:
    """An epoch's result, and the line of each of its steps."""

    loss: float
    digest: str
    steps: list[dict[str, Any]]


class _WithIndex(Dataset[Any]):
    """A data set whose samples include their index."""

    def __init__(self, data: Dataset[Batch]) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        return *self._data[index], index


class Traced:
    """A training whose epochs can be recorded; it is bitwise identical to the untraced training.

    Recording hooks into the batches, the network's layers, the loss, and the optimizer's step.
    Faults are injected first, so that their effect is recorded.
    """

    def __init__(self, case: Case, recipe: Recipe, faults: Sequence[FaultSpec] = ()) -> None:
        self._lines = MemorySink()
        self._listener = Listener(OPTIONS, lambda: self._lines)
        self._valued: range | None = None  # None while nothing is recorded

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
        lines = enumerate(self._lines.lines)
        steps = [{**line, "epoch": epoch, "step": step} for step, line in lines]
        return TracedEpoch(trained.loss, trained.digest, steps)

    def _record(self, event: Callable[..., None], *arguments: Any, **options: Any) -> None:
        if self._valued is not None:
            self._listener.shielded(lambda: event(*arguments, **options))

    def _listen(self, training: Training) -> None:
        spec, model, listener = training.spec, training.model, self._listener
        optimizer, loss_of, tamper = spec.optimizer, spec.loss, spec.tamper
        listener.weights.built(optimizer)

        def recorded_batches(batches: Iterable[Any]) -> Iterator[Batch]:
            numbered: Iterable[Any] = tamper(batches)
            for points, labels, order in numbered:
                self._record(self._begin, model, order)
                yield points, labels

        def recorded_loss(logits: Tensor, labels: Tensor) -> Tensor:
            loss = loss_of(logits, labels)
            self._record(listener.tensor, "data", "labels", labels)
            self._record(listener.backward, loss)
            return loss

        def leave(part: Any, _inputs: Any, output: Any) -> None:
            self._record(listener.leave_call, part, {}, output, outermost=part is model)

        spec.data, spec.tamper, spec.loss = _WithIndex(spec.data), recorded_batches, recorded_loss
        model.register_forward_pre_hook(
            lambda _, inputs: self._record(listener.enter_call, model, inputs, gradients=True)
        )
        for part in model.modules():
            part.register_forward_hook(leave)
        optimizer.register_step_pre_hook(lambda *_: self._record(listener.before_step, optimizer))
        optimizer.register_step_post_hook(lambda *_: self._record(listener.after_step, optimizer))

    def _begin(self, model: Any, order: Tensor) -> None:
        """Start a step, and record the sample numbers of its batch."""
        self._listener.detail.keeping = len(self._lines.lines) in (self._valued or ())
        self._listener.begin()
        self._listener.track(model)
        self._listener.tensor("data", "order", order)
