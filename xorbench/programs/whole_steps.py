"""The steps of a run on several ranks as whole tensors, and the samples of each step.

The sketches of shards add up to the sketch of the whole tensor. A tensor that every rank holds
whole is taken from the lowest rank; the others are its shares.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from typing import Any, Final, Literal

import numpy as np

from xorbench.programs.first_difference import WEIGHTS
from xorbench.programs.rounding import Array, Key, Step, merged, norm_of, read_steps
from xorbench.records.ended import Ended
from xorbench.records.trace import TraceFile, TraceStep, rank_of

REPLICATED: Final = ("initial", "gradient", "parameter")  # the same on every rank
LOSS: Final = ("loss", "")
# A tensor that no optimizer has, such as an unsharded parameter of FSDP2 between two passes.
FREE: Final = re.compile(r"u\d+")
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
        peers: the ranks whose rows together are the batch.
        rows: the number of rows of each of them.
        trains: whether a model is called, or a loss is computed.
        elements: the number of elements of the batch.
    """

    step: Step
    shares: Mapping[Key, Sequence[Array]]
    samples: Counter[str]
    draws: bool = False
    hyperparameters: Sequence[dict[str, dict[str, Any]]] = ()
    passes: int = 1
    peers: Sequence[int] = ()
    rows: Sequence[int] = ()
    trains: bool = True
    elements: int = 0


def ranks_of(run: Ended) -> dict[int, TraceFile]:
    """The traces of the last launch of a run by rank; a process without ranks is rank 0."""
    return {rank_of(trace): trace for trace in run.trained}


def whole_steps(run: Ended) -> list[WholeStep]:
    """The steps that every rank of a run completed, without first ones that train nothing.

    torch.distributed.checkpoint makes one for each optimizer before it loads.
    """
    ranks = {rank: _rank_steps(trace) for rank, trace in ranks_of(run).items()}
    rows = zip(*ranks.values(), strict=False)
    steps = [_whole(dict(zip(ranks, row, strict=True))) for row in rows]
    return steps_from(steps, next((n for n, step in enumerate(steps) if step.trains), 0))


def steps_from(steps: Sequence[WholeStep], first: int) -> list[WholeStep]:
    """The steps from one on; its initial weights are those that the step before it leaves."""
    if not 0 < first < len(steps):
        return list(steps[first:])
    before, own = steps[first - 1], steps[first]
    left = {key: ("initial", key[1]) for key in before.step.sketches if key[0] in WEIGHTS}
    sketches = {new: before.step.sketches[key] for key, new in left.items()}
    shares = {new: before.shares[key] for key, new in left.items() if key in before.shares}
    step = replace(own.step, sketches=sketches | own.step.sketches)
    return [replace(own, step=step, shares=shares | dict(own.shares)), *steps[first + 1 :]]


def _rank_steps(trace: TraceFile) -> Iterator[WholeStep]:
    lines = list(trace.lines())
    steps = (line for line in lines if isinstance(line, TraceStep))
    return map(_rank_step, read_steps(lines), steps)


def _rank_step(step: Step, line: TraceStep) -> WholeStep:
    """One step of one rank; a row is in all inputs of a call that have as many rows."""
    calls: dict[str, list[list[str]]] = {}
    batches = [event for event in line.events if event.kind == "batch" and event.more.rows]
    for event in batches:
        inputs = calls.setdefault(event.identity.partition("[")[0].partition(".")[0], [])
        if not inputs or len(inputs[0]) == len(event.more.rows):
            inputs.append(event.more.rows)
    rows = chain.from_iterable(zip(*inputs, strict=True) for inputs in calls.values())
    peers = next((event.more.of or "" for event in batches), "").split(",")
    return WholeStep(
        step,
        {},
        Counter(map(" ".join, rows)),
        draws=any(event.kind == "draw" for event in line.events),
        passes=len(calls),
        peers=[int(rank) for rank in peers if rank],
        trains=any(event.kind in ("call", "loss") for event in line.events),
        elements=sum(prod(event.more.shape or ()) for event in batches),
    )


def _whole(ranks: Mapping[int, WholeStep]) -> WholeStep:
    """One step of all ranks."""
    own = list(ranks.values())
    (whole,) = merged([[rank.step] for rank in own], whole=True)
    if known := whole.hyperparameters:
        free = {key for key in whole.sketches if FREE.fullmatch(key[1]) and key[1] not in known}
        whole.sketches = {key: s for key, s in whole.sketches.items() if key not in free}
    whole.sketches |= {key: s for key, s in own[0].step.sketches.items() if key == LOSS}
    shares = {
        key: [rank.step.sketches[key].sums for rank in own if key in rank.step.sketches]
        for key, sketch in whole.sketches.items()
        if not sketch.shard
    }
    peers = [rank for rank in own[0].peers or [min(ranks)] if rank in ranks]
    samples = [ranks[rank].samples for rank in peers]
    rows = [each.total() for each in samples]
    draws, groups = any(rank.draws for rank in own), [rank.step.hyperparameters for rank in own]
    every = sum(samples, Counter[str]())
    trains = any(rank.trains for rank in own)
    elements = sum(ranks[rank].elements for rank in peers)
    return WholeStep(
        whole, shares, every, draws, groups, own[0].passes, peers, rows, trains, elements
    )


def as_one(step: WholeStep, reference: WholeStep, loss: Loss | None) -> WholeStep:
    """The step with one value of each tensor, loss and hyperparameter that every rank holds.

    It is that of the rank which differs most from the reference.
    """
    sketches, owned = dict(step.step.sketches), reference.step.sketches
    for key, shares in step.shares.items():
        if key[0] in REPLICATED and key in owned and shares:
            gaps = [norm_of(share - owned[key].sums) for share in shares]
            sketches[key] = replace(sketches[key], sums=shares[int(np.argmax(gaps))])
    expected = reference.step.hyperparameters
    groups = next((g for g in step.hyperparameters if g != expected), step.step.hyperparameters)
    whole = replace(step.step, sketches=sketches, hyperparameters=groups)
    return with_loss(replace(step, step=whole), reference, loss)


def with_loss(step: WholeStep, reference: WholeStep, loss: Loss | None) -> WholeStep:
    """The step with the loss of all ranks: the mean or the sum, else whichever is close, or none.

    A rank's loss is its share of the whole.
    """
    shares, own = step.shares.get(LOSS), reference.step.sketches.get(LOSS)
    if not shares or own is None:
        return step
    total = sum(shares[1:], shares[0])
    wholes = {"mean": total / len(shares), "sum": total}
    near = [w for w in wholes.values() if np.max(abs(w - own.sums)) <= 0.01 * np.max(abs(own.sums))]
    near = near if loss is None else [wholes[loss]]
    sketches = {k: s for k, s in step.step.sketches.items() if k != LOSS}
    if near:
        sketches = {LOSS: replace(own, sums=near[0]), **sketches}
    return replace(step, step=replace(step.step, sketches=sketches))
