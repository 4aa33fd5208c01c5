"""The steps of a run on several ranks as whole tensors, and the samples of each step.

The sketches of shards add up to the sketch of the whole tensor. A tensor that every rank holds
whole is taken from the lowest rank; the others are its shares.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final, Literal

import numpy as np
from msgspec.structs import replace as changed

from xorbench.programs.rounding import Array, Key, Sketch, Step, read_steps
from xorbench.programs.run_processes import keyed
from xorbench.records.ended import Ended
from xorbench.records.trace import ProgramLine, TraceEnd, TraceEvent, TraceFile, TraceStep

WHOLE: Final = ("parameter", "final parameter", "buffer", "final buffer", "gradient", "loss")
REPLICATED: Final = ("initial", "gradient", "parameter")  # the same on every rank
Loss = Literal["mean", "sum"]


@dataclass(frozen=True, slots=True)
class WholeStep:
    """One step of a run on any number of ranks.

    Attributes:
        step: the sketches of the whole tensors, and the hyperparameters.
        shares: the sketches of each rank, of a tensor that each rank holds whole.
        samples: how often each row is in the batches of the step; empty without rows.
        draws: whether the step draws random numbers in the model.
        hyperparameters: those of each rank, by parameter.
        passes: the number of calls of a model in a rank.
    """

    step: Step
    shares: Mapping[Key, Sequence[Array]]
    samples: Counter[str]
    draws: bool = False
    hyperparameters: Sequence[dict[str, dict[str, Any]]] = ()
    passes: int = 1


@dataclass(slots=True)
class _RankSteps:
    """The steps of one rank, and its rows, by step."""

    steps: list[Step]
    rows: list[Counter[str]] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    draws: list[bool] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)


def ranks_of(run: Ended) -> dict[int, TraceFile]:
    """The traces of the last launch of a run by rank; a process without ranks is rank 0."""
    ranks: dict[int, TraceFile] = {}
    for process, trace in keyed(run.traces).items():
        if trace.has_steps:
            ranks[int(process.rank) if process.rank.isdecimal() else 0] = trace
    return dict(sorted(ranks.items()))


def whole_steps(run: Ended, first: int = 0) -> list[WholeStep]:
    """The steps that every rank of a run completed, from the step `first`."""
    ranks = {rank: _rank_steps(trace, first) for rank, trace in ranks_of(run).items()}
    if not ranks:
        return []
    count = min(len(rank.rows) for rank in ranks.values())
    return [_whole(ranks, number) for number in range(count)]


def _rank_steps(trace: TraceFile, first: int) -> _RankSteps:
    rank, lines = _RankSteps([]), list[ProgramLine]()
    names: dict[str, tuple[str, list[int], str]] = {}
    groups: dict[str, list[dict[str, object]]] = {}
    for line in trace.lines():
        names |= line.names
        groups |= line.hyperparameters
        if isinstance(line, TraceStep) and not lines and _makes_state(line):
            first += 1
        if isinstance(line, TraceStep) and line.step < first:
            continue
        own = _of_whole_tensors(line, first)
        if not lines:  # with the descriptions of the skipped lines
            own = changed(own, names=dict(names), hyperparameters=dict(groups))
        lines.append(own)
        if isinstance(line, TraceStep):
            batches = [event for event in line.events if event.kind == "batch" and event.more.rows]
            rank.rows.append(_samples(batches))
            rank.peers.append(next((event.more.of or "" for event in batches), ""))
            rank.draws.append(any(event.kind == "draw" for event in line.events))
            rank.passes.append(len({_call(event) for event in batches}))
    rank.steps = read_steps(lines)
    return rank


def _makes_state(line: TraceStep) -> bool:
    """Whether a step trains nothing: torch.distributed.checkpoint makes one before it loads."""
    return not any(event.kind in ("call", "loss") for event in line.events)


def _of_whole_tensors(line: ProgramLine, first: int) -> ProgramLine:
    """The line with the events of whole tensors only, and its step counted from `first`."""
    if isinstance(line, TraceEnd):
        return line
    events = [event for event in line.events if event.kind in WHOLE]
    return changed(line, step=line.step - first, events=events)


def _samples(batches: Sequence[TraceEvent]) -> Counter[str]:
    """The rows of the batches; a row is in all inputs of a call that have as many rows."""
    calls: dict[str, list[list[str]]] = {}
    for event in batches:
        inputs = calls.setdefault(_call(event), [])
        if not inputs or len(inputs[0]) == len(event.more.rows):
            inputs.append(event.more.rows)
    rows = (zip(*inputs, strict=True) for inputs in calls.values())
    return Counter(" ".join(row) for row in chain.from_iterable(rows))


def _call(batch: TraceEvent) -> str:
    return batch.identity.partition("[")[0].partition(".")[0]


def _whole(ranks: Mapping[int, _RankSteps], number: int) -> WholeStep:
    """One step of all ranks."""
    lowest = next(iter(ranks.values()))
    steps = {rank: own.steps[number] for rank, own in ranks.items()}
    sketches, shares = dict[Key, Sketch](), dict[Key, list[Array]]()
    for key, sketch in next(iter(steps.values())).sketches.items():
        own = [step.sketches[key].sums for step in steps.values() if key in step.sketches]
        if sketch.shard:
            sketches[key] = replace(sketch, sums=sum(own[1:], own[0]))
        else:
            sketches[key], shares[key] = sketch, own
    samples = Counter[str]()
    for rank in _data_ranks(lowest.peers[number], ranks):
        samples += ranks[rank].rows[number]
    whole = Step(sketches, {}, next(iter(steps.values())).hyperparameters)
    draws = any(rank.draws[number] for rank in ranks.values())
    groups = [step.hyperparameters for step in steps.values()]
    return WholeStep(whole, shares, samples, draws, groups, lowest.passes[number])


def _data_ranks(peers: str, ranks: Mapping[int, object]) -> list[int]:
    """The ranks whose rows together are the batch."""
    named = [int(rank) for rank in peers.split(",") if rank]
    return [rank for rank in named or [min(ranks)] if rank in ranks]


def as_one(step: WholeStep, reference: WholeStep, loss: Loss | None) -> WholeStep:
    """The step with one value of each tensor, loss and hyperparameter that every rank holds.

    It is that of the rank which differs most from the reference.
    """
    sketches, owned = dict(step.step.sketches), reference.step.sketches
    for key, shares in step.shares.items():
        if key[0] in REPLICATED and key in owned and shares:
            gaps = [float(np.linalg.norm(share - owned[key].sums)) for share in shares]
            sketches[key] = replace(sketches[key], sums=shares[int(np.argmax(gaps))])
    expected = reference.step.hyperparameters
    groups = next((g for g in step.hyperparameters if g != expected), step.step.hyperparameters)
    whole = replace(step.step, sketches=sketches, hyperparameters=groups)
    return with_loss(replace(step, step=whole), reference, loss)


def with_loss(step: WholeStep, reference: WholeStep, loss: Loss | None) -> WholeStep:
    """The step with the loss of all ranks: the mean or the sum, else whichever is close, or none.

    A rank's loss is its share of the whole.
    """
    key = ("loss", "")
    shares, own = step.shares.get(key), reference.step.sketches.get(key)
    if not shares or own is None:
        return step
    total = sum(shares[1:], shares[0])
    wholes = {"mean": total / len(shares), "sum": total}
    if loss is None:
        near = [w for w in wholes.values() if abs(w - own.sums).max() <= 0.01 * abs(own.sums).max()]
    else:
        near = [wholes[loss]]
    sketches = {k: s for k, s in step.step.sketches.items() if k != key}
    if near:
        sketches = {key: replace(own, sums=near[0]), **sketches}
    return replace(step, step=replace(step.step, sketches=sketches))
