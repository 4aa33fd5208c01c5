"""A training recorded step by step, by the recorder that listens to any training."""

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
    """An epoch as observed, and the line of each of its steps."""

    loss: float
    digest: str
    steps: list[dict[str, Any]]


class _WithIndex(Dataset[Any]):
    """A data set whose samples also have their index."""

    def __init__(self, data: Dataset[Batch]) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        return *self._data[index], index


class Traced:
    """A training whose epochs can be recorded. It has the bits of the same training untraced.

    It listens from outside: behind the batches, at the network's layers, around the loss, and
    before and after the optimizer's step. Faults are injected first, so that it sees their effect.
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

    def _note(self, event: Callable[..., None], *arguments: Any, **options: Any) -> None:
        if self._valued is not None:
            self._listener.shielded(lambda: event(*arguments, **options))

    def _listen(self, training: Training) -> None:
        spec, model, listener = training.spec, training.model, self._listener
        optimizer, loss_of, tamper = spec.optimizer, spec.loss, spec.tamper
        listener.weights.built(optimizer)

        def noted_batches(batches: Iterable[Any]) -> Iterator[Batch]:
            numbered: Iterable[Any] = tamper(batches)
            for points, labels, order in numbered:
                self._note(self._begin, model, order)
                yield points, labels

        def noted_loss(logits: Tensor, labels: Tensor) -> Tensor:
            loss = loss_of(logits, labels)
            self._note(listener.tensor, "data", "labels", labels)
            self._note(listener.backward, loss)
            return loss

        def leave(part: Any, _inputs: Any, output: Any) -> None:
            self._note(listener.leave_call, part, {}, output, outermost=part is model)

        spec.data, spec.tamper, spec.loss = _WithIndex(spec.data), noted_batches, noted_loss
        model.register_forward_pre_hook(
            lambda _, inputs: self._note(listener.enter_call, model, inputs, gradients=True)
        )
        for part in model.modules():
            part.register_forward_hook(leave)
        optimizer.register_step_pre_hook(lambda *_: self._note(listener.before_step, optimizer))
        optimizer.register_step_post_hook(lambda *_: self._note(listener.after_step, optimizer))

    def _begin(self, model: Any, order: Tensor) -> None:
        """A step begins with the numbers of the samples of its batch."""
        self._listener.detail.keeping = len(self._lines.lines) in (self._valued or ())
        self._listener.begin()
        self._listener.track(model)
        self._listener.tensor("data", "order", order)
