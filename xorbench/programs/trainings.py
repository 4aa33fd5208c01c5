"""The trainings of a command: several in one record, and the jobs of a pool in any order."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from msgspec.structs import replace as changed

from xorbench.programs.run_processes import ProcessPair, RunProcess, keyed
from xorbench.records.trace import (
    CACHE_BYTES,
    ProgramLine,
    TraceEnd,
    TraceEvent,
    TraceFile,
    TraceLine,
    TraceStep,
)
from xorbench.verdicts import counted, some

OWNER: Final = re.compile(r"([om])(\d+)(?=\.|$)")  # of a weight: an optimizer or a module
MOST_LISTED: Final = 8
BEGINNING: Final = ("parameter", "batch", "loss")  # the kinds that identify a training

Weights = dict[str, str | None]


@dataclass(frozen=True)
class TrainingTrace(TraceFile):
    """One of several trainings in a record, with its steps and optimizers counted from 0.

    Weights of the earlier trainings, which may still be alive, are not part of it, nor are
    parameters that no optimizer has.

    Attributes:
        source: the record.
        start: the first step of the training in the record.
        stop: the first step of the next one; None for the last.
    """

    source: TraceFile
    start: int
    stop: int | None

    def all_lines(self) -> Iterator[TraceLine]:
        """The steps of the training, and its end if it is known."""
        for line in self._own_steps():
            yield self._renamed(line)
        if (end := self.end()) is not None:
            yield end

    def end(self) -> TraceEnd | None:
        """The end of the training; without final weights if another one follows."""
        end = self.source.end()
        steps = sum(1 for _ in self._own_steps())
        if end is None:
            known = self.stop is not None
            return TraceEnd(end=True, steps=steps, complete=True) if known else None
        last = self.stop is None
        return changed(
            end,
            steps=steps,
            complete=end.complete if last else True,
            events=self._events(end.events) if last else [],
            final=self._events(end.final),
            names={},
        )

    def _own_steps(self) -> Iterator[TraceStep]:
        for line in self.source.steps():
            if line.step >= self.start and (self.stop is None or line.step < self.stop):
                yield line

    @cached_property
    def _owners(self) -> Mapping[str, str]:
        """The new names of the optimizers and modules of this training."""
        new: dict[str, str] = {}
        counts = {"o": 0, "m": 0}
        for line in self._own_steps():
            for event in line.events:
                owner = _owner(event)
                if owner and owner not in new and owner not in self._earlier:
                    new[owner] = f"{owner[0]}{counts[owner[0]]}"
                    counts[owner[0]] += 1
        return new

    @cached_property
    def _earlier(self) -> set[str]:
        """The optimizers and modules of the earlier trainings in the record."""
        steps = (line for line in self.source.steps() if line.step < self.start)
        return {_owner(event) for line in steps for event in line.events}

    def _renamed(self, line: TraceStep) -> TraceStep:
        names = {
            self._name(identity): name
            for identity, name in line.names.items()
            if self._name(identity)
        }
        hyper = {
            self._name(owner): groups
            for owner, groups in line.hyperparameters.items()
            if self._name(owner)
        }
        step, events = line.step - self.start, self._events(line.events)
        return changed(line, step=step, events=events, names=names, hyperparameters=hyper)

    def _events(self, events: Sequence[TraceEvent]) -> list[TraceEvent]:
        return [
            changed(event, identity=self._name(event.identity))
            for event in events
            if self._name(event.identity) and not _is_untrained(event)
        ]

    def _name(self, identity: str) -> str:
        """The new name of a weight; empty for a weight of an earlier training."""
        match = OWNER.match(identity)
        if match is None:
            return identity
        owner = self._owners.get(match[0], "")
        return owner and owner + identity[match.end() :]


def _owner(event: TraceEvent) -> str:
    """The optimizer of an event, or the module of a buffer; else empty."""
    match = None if _is_untrained(event) else OWNER.match(event.identity)
    return match[0] if match else ""


def _is_untrained(event: TraceEvent) -> bool:
    """Whether it is a parameter that no optimizer has, perhaps of an earlier model."""
    return event.kind.endswith("parameter") and event.identity.startswith("m")


def split(trace: TraceFile) -> list[TrainingTrace]:
    """The trainings of a record, in their order.

    A training begins with a step in which every optimizer and its parameters are new, or in which
    the parameters, which have changed, have again the values of its first step.
    """
    starts: list[int] = []
    seen: set[str] = set()
    first: Weights = {}
    changed = False  # whether the weights of the training have changed
    for line in trace.steps():
        weights = _optimized(line)
        owners = {OWNER.match(name)[0] for name in weights if OWNER.match(name)}  # type: ignore[index]
        again = changed and weights == first
        if not starts or (owners and (not owners & seen or again)):
            starts.append(line.step)
            first, changed = weights, False
        changed = changed or weights != first
        seen |= owners
    stops = [*starts[1:], None]
    return [
        TrainingTrace(trace.path, trace.head, trace, start, stop)
        for start, stop in zip(starts, stops, strict=True)
    ]


def _optimized(line: TraceStep) -> Weights:
    """The digests of the parameters that an optimizer has."""
    events = (event for event in line.events if event.kind == "parameter")
    return {event.identity: event.digest for event in events if event.identity.startswith("o")}


# The jobs of a pool


def job_pairs(pairs: Sequence[ProcessPair]) -> list[ProcessPair]:
    """The trainings of the pool processes of two runs.

    A training is compared with one that begins with the same values, else in their order.
    """
    left = [training for pair in pairs if pair.a is not None for training in split(pair.a)]
    right = [training for pair in pairs if pair.b is not None for training in split(pair.b)]
    beginnings: dict[tuple[object, ...], list[TrainingTrace]] = {}
    for training in right:
        beginnings.setdefault(_beginning(training), []).append(training)
    matches: list[TrainingTrace | None] = []
    for training in left:
        equal = beginnings.get(_beginning(training))
        matches.append(equal.pop(0) if equal else None)
    rest = iter([training for training in right if all(training is not m for m in matches)])
    matches = [next(rest, None) if match is None else match for match in matches]
    couples: list[tuple[TrainingTrace | None, TrainingTrace | None]] = [
        *zip(left, matches, strict=True),
        *((None, training) for training in rest),
    ]
    return [ProcessPair(_job(number, a or b), a, b) for number, (a, b) in enumerate(couples, 1)]


def _job(number: int, training: TrainingTrace | None) -> RunProcess:
    process = training and training.head.process
    script = process.argv[0] if process and process.argv else "python"
    return RunProcess("", f"{script} (training {number} of the pool)", 0, 0)


def _beginning(training: TrainingTrace) -> tuple[object, ...]:
    """The parameters, inputs and losses of the first step."""
    first: ProgramLine | None = next(training.steps(), None)
    events = [] if first is None else first.events
    return tuple((e.kind, e.identity, e.digest) for e in events if e.kind in BEGINNING)


# The list of the trainings


def list_trainings(traces: Sequence[TraceFile]) -> list[tuple[str, str]]:
    """The trainings of a run with their steps, as an entry of the details; empty for a single one.

    The ranks of a launch make one training.
    """
    rows: list[tuple[str, int]] = []
    for process, trace in keyed([trace for trace in traces if trace.has_steps]).items():
        if process.rank in ("", "0"):
            small = trace.path.stat().st_size <= CACHE_BYTES
            parts: Sequence[TraceFile] = split(trace) if small else [trace]
            rows += [(process.argv or "python", part.step_count) for part in parts]
    numbered = enumerate(rows, 1)
    texts = [f"{number}: {name}, {counted(count, 'step')}" for number, (name, count) in numbered]
    return [("trainings", some(texts, MOST_LISTED, "; "))] if len(texts) > 1 else []
