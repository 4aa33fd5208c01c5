"""`trace`: record a training step by step."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from xorbench import __version__
from xorbench.errors import BadOption
from xorbench.records import trace as traces
from xorbench.records.trace import CaseTrace, EpochTrace, TracedTraining
from xorbench.runtime.interrupt import terminable
from xorbench.runtime.start import running, starter
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.trace.divergence import first_epoch
from xorbench.xor.trace.training_ref import TrainingRef, named


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """The options of a trace; `epochs` are the epochs to record, by default all."""

    text: str
    output: Path
    recipe: Recipe
    root: Path = Path("results")
    epochs: tuple[int, ...] | None = None
    valued: range = range(0)
    timeout_s: float = 120.0
    faults: tuple[str, ...] = ()


def trace(request: TraceRequest) -> tuple[CaseTrace, int | None]:
    """Train the case in a process and write its trace.

    Also returns the first epoch that differs from the record. Raises `BadOption`, `BadFile`.
    """
    side = named(request.root, "CASE", request.text, request.recipe, request.faults)
    epochs = range(side.recipe.epochs) if request.epochs is None else request.epochs
    _require_known(request, side, max(epochs))
    recorded: dict[int, EpochTrace] = {}
    with terminable(), tempfile.TemporaryDirectory() as folder:
        slot = side.slot("p0")
        with running([slot], starter(lambda name: Path(folder) / name, request.timeout_s)):
            training = side.opened(slot, recorded=True)
            for epoch in range(max(epochs) + 1):
                if epoch in epochs:
                    recorded[epoch] = training.record(epoch, request.valued)
                else:
                    training.step()
    traced = TracedTraining(
        xorbench_version=__version__,
        case=side.case,
        config=side.config,
        recipe=side.recipe,
        faults=list(side.faults),
        index=side.index,
        inputs_sha256=training.inputs_sha256,
    )
    case_trace = CaseTrace(traces.case_head(traced, slot.machine), traced, recorded)
    traces.write(request.output, case_trace)
    digests = {number: epoch.digest for number, epoch in recorded.items()}
    return case_trace, first_epoch(side.epoch_digests, digests)


def _require_known(request: TraceRequest, side: TrainingRef, last_epoch: int) -> None:
    """Raise `BadOption` for an epoch or a step that the training does not have."""
    if last_epoch >= side.recipe.epochs:
        raise BadOption(f"--epoch: epoch {last_epoch} of a training of {side.recipe.epochs} epochs")
    if request.valued and request.valued[-1] >= side.steps:
        raise BadOption(
            f"--dump-steps: step {request.valued[-1]} of an epoch of {side.steps} steps",
            f"steps count from 0 in each epoch: use a range within 0-{side.steps - 1}",
        )
