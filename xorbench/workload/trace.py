"""A training watched step by step: a digest of every tensor, in the order of the computation."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from xorbench.plan.case import Case
from xorbench.plan.digest import DIGITS, FORWARD
from xorbench.plan.faults import FaultSpec
from xorbench.plan.recipe import Recipe
from xorbench.workload import digest
from xorbench.workload.faults import inject
from xorbench.workload.loop import Training
from xorbench.workload.xor import Batch

Numbered = tuple[Tensor, Tensor, int]


@dataclass(frozen=True, slots=True)
class TracedEpoch:
    """An epoch as observed, and for each of its steps the tensors' digests.

    `values` holds the tensors themselves, by name, of the steps that were asked for.
    """

    loss: float
    digest: str
    steps: list[list[str]]
    values: dict[int, dict[str, dict[str, object]]]


@dataclass(slots=True)
class Recording:
    """What has been recorded of the epoch that is being watched."""

    valued: range
    steps: list[list[str]] = field(default_factory=list)
    values: dict[int, dict[str, dict[str, object]]] = field(default_factory=dict)


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
        self._seen: dict[str, Tensor] = {}
        self._recording: Recording | None = None

        def alter(training: Training) -> None:
            inject(training, faults)
            self._listen(training)

        self.training = Training(case, recipe, alter=alter)
        self.tensors = [
            *FORWARD,
            *(f"grad {name}" for name, _ in self._backward()),
            *(name for name, _ in self.training.model.named_parameters()),
        ]

    def record(self, valued: range = range(0)) -> TracedEpoch:
        """Train one epoch and record it, with the values of the steps in `valued`."""
        self._recording = recording = Recording(valued)
        try:
            epoch = asdict(self.training.step())
        finally:
            self._recording = None
        return TracedEpoch(epoch["loss"], epoch["digest"], recording.steps, recording.values)

    def _backward(self) -> list[tuple[str, Tensor]]:
        """Parameters in the order in which their gradients are computed."""
        return list(reversed(list(self.training.model.named_parameters())))

    def _listen(self, training: Training) -> None:
        spec, model, loss_of, tamper = (
            training.spec,
            training.model,
            training.spec.loss,
            training.spec.tamper,
        )

        def unnumbered(batches: Iterable[Any]) -> Iterator[Batch]:
            numbered: Iterable[Any] = tamper(batches)
            for points, labels, order in numbered:
                self._see("order", order)
                yield points, labels

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            value = loss_of(logits, labels)
            for name, tensor in (("labels", labels), ("logits", logits), ("loss", value)):
                self._see(name, tensor)
            return value

        spec.data, spec.tamper, spec.loss = _WithIndex(spec.data), unnumbered, loss
        model.register_forward_pre_hook(lambda _m, inputs: self._see("inputs", inputs[0]))
        model.act_fn.register_forward_hook(lambda _m, _i, output: self._see("hidden", output))
        spec.optimizer.register_step_pre_hook(self._before_step)
        spec.optimizer.register_step_post_hook(self._after_step)

    def _see(self, name: str, tensor: Tensor) -> None:
        if self._recording is not None:
            self._seen[name] = tensor.detach().clone()

    def _before_step(self, *_: object) -> None:
        for name, weight in self._backward():
            self._see(f"grad {name}", torch.empty(0) if weight.grad is None else weight.grad)

    def _after_step(self, *_: object) -> None:
        recording = self._recording
        if recording is None:
            return
        for name, weight in self.training.model.named_parameters():
            self._see(name, weight)
        step = len(recording.steps)
        seen = {name: self._seen[name] for name in self.tensors}
        recording.steps.append([digest.sha256([item])[:DIGITS] for item in seen.items()])
        if step in recording.valued:
            recording.values[step] = {name: digest.record(t) for name, t in seen.items()}
