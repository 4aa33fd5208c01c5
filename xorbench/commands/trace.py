"""`trace`: a training written down step by step."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xorbench import __version__
from xorbench.commands.interrupt import terminable
from xorbench.commands.processes import running, starter
from xorbench.commands.training_ref import TrainingRef, named
from xorbench.errors import BadOption
from xorbench.judge.divergence import first_epoch
from xorbench.observe import trace as traces
from xorbench.observe.trace import CaseTrace, EpochTrace, TracedTraining
from xorbench.plan.recipe import Recipe


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """A trace as the command line asks for it; `at` are the epochs to record, all by default."""

    text: str
    output: Path
    recipe: Recipe
    root: Path = Path("results")
    at: tuple[int, ...] | None = None
    valued: range = range(0)
    timeout_s: float = 120.0
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TraceOutcome:
    """The trace as written, and the first epoch in which it is not what was on record."""

    output: Path
    trace: CaseTrace
    diverged: int | None


def trace(request: TraceRequest) -> TraceOutcome:
    """Train the case in a process and write what was recorded. Raises `BadOption`, `BadFile`."""
    side = named(request.root, "CASE", request.text, request.recipe, request.faults)
    epochs = _epochs(request, side)
    _require_steps(request, side)
    with terminable(), tempfile.TemporaryDirectory() as folder:
        slot = side.slot("p0")
        start = starter(lambda name: Path(folder) / name, request.timeout_s)
        with running([slot], start):
            training = side.opened(slot, recorded=True)
            recorded: dict[int, EpochTrace] = {}
            for epoch in range(max(epochs) + 1):
                if epoch in epochs:
                    recorded[epoch] = training.record(epoch, request.valued)
                else:
                    training.step()
    head = TracedTraining(
        xorbench_version=__version__,
        case=side.case,
        config=side.config,
        recipe=side.recipe,
        faults=list(side.faults),
        index=side.index,
        inputs_sha256=training.inputs_sha256,
    )
    trace = CaseTrace(traces.case_head(head, slot.machine), head, recorded)
    traces.write(request.output, trace)
    digests = {number: epoch.digest for number, epoch in recorded.items()}
    return TraceOutcome(request.output, trace, first_epoch(side.epoch_digests, digests))


def _epochs(request: TraceRequest, side: TrainingRef) -> Sequence[int]:
    epochs = range(side.recipe.epochs) if request.at is None else request.at
    if max(epochs) >= side.recipe.epochs:
        raise BadOption(
            f"--epoch: epoch {max(epochs)} of a training of {side.recipe.epochs} epochs"
        )
    return epochs


def _require_steps(request: TraceRequest, side: TrainingRef) -> None:
    """Raise `BadOption` for values of a step that no epoch has."""
    if request.valued and request.valued[-1] >= side.steps:
        raise BadOption(
            f"--dump-steps: step {request.valued[-1]} of an epoch of {side.steps} steps",
            f"steps count from 0 in each epoch: give some of 0-{side.steps - 1}",
        )
