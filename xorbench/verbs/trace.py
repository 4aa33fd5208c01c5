"""`trace`: a training written down step by step."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xorbench import __version__
from xorbench.errors import BadOption
from xorbench.judge.divergence import first_epoch
from xorbench.measure import replay
from xorbench.observe import trace as traces
from xorbench.observe.trace import Trace, TraceEpoch, TraceHead
from xorbench.plan.recipe import Recipe
from xorbench.verbs.sides import Side, named
from xorbench.verbs.workers import running, starter, terminable


@dataclass(frozen=True, slots=True)
class Request:
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
class Outcome:
    """The trace as written, and the first epoch in which it is not what was on record."""

    output: Path
    trace: Trace
    parted: int | None


def trace(request: Request) -> Outcome:
    """Train the case in a worker and write what was recorded. Raises `BadOption`, `BadFile`."""
    side = named(request.root, "CASE", request.text, request.recipe, request.faults)
    epochs = _epochs(request, side)
    with tempfile.TemporaryDirectory() as folder, terminable():
        slot = side.slot("w0")
        start = starter(lambda name: Path(folder) / name, request.timeout_s)
        with running([slot], start):
            opened = replay.open_traced(slot, side.case, side.recipe, side.planted())
            recorded: dict[int, TraceEpoch] = {}
            for epoch in range(max(epochs) + 1):
                if epoch in epochs:
                    recorded[epoch] = replay.record(slot, opened, epoch, request.valued)
                else:
                    replay.step(slot, opened)
    head = TraceHead(
        xorbench_version=__version__,
        case=side.case,
        setting=side.setting,
        recipe=side.recipe,
        faults=list(side.faults),
        repeat=side.repeat,
        machine=slot.machine,
        inputs_sha256=opened.inputs_sha256,
        tensors=opened.tensors,
    )
    found = Trace(head=head, epochs=recorded)
    traces.write(request.output, found)
    digests = {number: epoch.digest for number, epoch in recorded.items()}
    return Outcome(request.output, found, first_epoch(side.tape, digests))


def _epochs(request: Request, side: Side) -> Sequence[int]:
    epochs = range(side.recipe.epochs) if request.at is None else request.at
    if max(epochs) >= side.recipe.epochs:
        raise BadOption(f"--at: epoch {max(epochs)} of a training of {side.recipe.epochs} epochs")
    return epochs
