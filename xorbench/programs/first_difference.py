"""Where two records of a training first differ, in program order."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from typing import Any, Final, Literal

from xorbench.records.trace import ProgramLine, TraceEnd, TraceEvent, TraceStep

# Events that explain a difference and are not compared: a correct training may leave generators
# that it does not use in any state, and evaluate or average at any time.
EXPLAINS: Final = ("generator", "context", "note", "other", "final other")
DETAIL: Final = ("data", "operator", "output", "gradient", "state", "new state", "new parameter")
WEIGHTS: Final = ("parameter", "buffer")
How = Literal["digest", "events", "steps"]

NAMES: Final = {"lr": "learning rate (lr)"}

Hyperparameters = Mapping[str, list[dict[str, Any]]]  # the groups of each optimizer


@dataclass(frozen=True, slots=True)
class FirstDifference:
    """The first event that differs.

    Attributes:
        step: the step in which it is; the number of steps for the final parameters.
        how: a different digest, a different event, or a different number of steps.
        a, b: the event on both sides; None where a side has no more.
        name: the readable name of the parameter or buffer, if it is one.
        generators: the global generators that differ where the step begins.
        drawn: the ones that the first side drew from in the step or in the one before.
        undrawn: whether it is known that it drew from none.
        others: how many more events of this kind differ in this step, and of how many.
        after: the kinds of events before it in its step.
        call: the name of the module that the event's call is of.
        optimizer: the name of the optimizer that steps, once it is about to.
        values: the hyperparameter that differs, with both values.
        at_end: whether it is after the last step that is complete.
    """

    step: int
    how: How
    a: TraceEvent | None
    b: TraceEvent | None
    name: str = ""
    generators: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()
    undrawn: bool = False
    others: tuple[int, int] = (0, 0)
    after: frozenset[str] = frozenset()
    call: str = ""
    optimizer: str = ""
    values: str = ""
    steps: tuple[int, int] = (0, 0)
    at_end: bool = False

    @property
    def event(self) -> TraceEvent:
        """The event, of the first side if it has it."""
        event = self.a or self.b
        return TraceEvent("steps", "", None) if event is None else event


@dataclass(slots=True)
class Coverage:
    """The events that were compared, and the ones that could not be.

    Attributes:
        steps: steps that both sides have.
        parameters, buffers: the identities that were compared.
        counts: how many events of each kind were compared.
        not_recorded: why events have no digest, and how many.
        ends: the last line of each record, which holds the final weights; None if it has none.
        left_out: steps that one side left out, as its record was full.
        events_left_out: events that one side left out, of steps with very many.
        errors: errors of the recorder.
    """

    steps: int = 0
    parameters: set[str] = field(default_factory=set)
    buffers: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    not_recorded: Counter[str] = field(default_factory=Counter)
    ends: tuple[TraceEnd | None, TraceEnd | None] = (None, None)
    left_out: int = 0
    events_left_out: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether both records have their last line."""
        return None not in self.ends

    def add(self, event: TraceEvent) -> None:
        """Count an event that is the same on both sides."""
        if event.digest is None:
            if event.more.not_recorded:
                self.not_recorded[f"{event.kind}: {event.more.not_recorded}"] += 1
            return
        self.counts[event.kind] += 1
        if event.kind == "parameter":
            self.parameters.add(event.identity)
        elif event.kind == "buffer":
            self.buffers.add(event.identity)


@dataclass(frozen=True, slots=True)
class Compared:
    """The result of comparing two records; `first` is None where nothing differs."""

    coverage: Coverage
    first: FirstDifference | None


def compare(
    a: Iterable[ProgramLine],
    b: Iterable[ProgramLine],
    at_start: Mapping[str, str] | None = None,
    left_out: Sequence[str] = (),
) -> Compared:
    """Compare two records step by step, and end at the first difference.

    `at_start` are the digests of the generators of the first side before step 0; `left_out` are
    kinds of events that one side has not recorded.
    """
    coverage, names, before = Coverage(), dict[str, str](), dict(at_start or {})
    used: list[Hyperparameters] = [{}, {}]
    lines, others = iter(a), iter(b)
    for step, other in zip_longest(lines, others):
        if step is not None:
            names |= {identity: name for identity, (name, _, _) in step.names.items()}
        if isinstance(step, TraceEnd) and isinstance(other, TraceEnd):
            return _ends(step, other, coverage, names)
        if not isinstance(step, TraceStep) or not isinstance(other, TraceStep):
            return _uneven(step, other, chain(lines, others), coverage)
        coverage.errors += [*step.errors, *other.errors]
        coverage.events_left_out += max(step.events_left_out, other.events_left_out)
        used = [{**a, **b.hyperparameters} for a, b in zip(used, (step, other), strict=True)]
        events = [[e for e in line.events if e.kind not in left_out] for line in (step, other)]
        first = first_of(step.step, events[0], events[1], coverage, names)
        if first is not None:
            first = replace(first, values=changed(used[0], used[1]))
            after = next(lines, None)
            following = _generators(after) if isinstance(after, TraceStep) else {}
            return Compared(coverage, _explained(first, step, other, before, following))
        coverage.steps += 1
        before = _generators(step)
    return Compared(coverage, None)


def _ends(a: TraceEnd, b: TraceEnd, coverage: Coverage, names: Mapping[str, str]) -> Compared:
    coverage.left_out = max(a.left_out, b.left_out)
    coverage.ends = (a, b)
    coverage.events_left_out += max(a.events_left_out, b.events_left_out)
    coverage.errors += [*a.errors, *b.errors]
    first = first_of(a.steps, a.events, b.events, coverage, names)
    finals = _in_both(a.final, b.final)
    first = first or first_of(a.steps, finals[0], finals[1], coverage, names)
    if first is None and a.steps != b.steps:
        first = FirstDifference(
            min(a.steps, b.steps), "steps", None, None, steps=(a.steps, b.steps)
        )
    return Compared(coverage, first and replace(first, at_end=True))


def _in_both(a: Sequence[TraceEvent], b: Sequence[TraceEvent]) -> list[list[TraceEvent]]:
    """The final weights of both sides, in one order; garbage may have been collected on one."""
    others = {_key(event): event for event in b}
    both = [(event, others[_key(event)]) for event in a if _key(event) in others]
    return [[event for event, _ in both], [event for _, event in both]]


def _uneven(
    line: ProgramLine | None,
    other: ProgramLine | None,
    rest: Iterable[ProgramLine],
    coverage: Coverage,
) -> Compared:
    """One side has no further step; that is a difference unless its record was cut short.

    `rest` is the lines that the longer side still has.
    """
    a, b = (end if isinstance(end, TraceEnd) else None for end in (line, other))
    coverage.ends = (a, b)
    coverage.left_out = max((end.left_out for end in (a, b) if end is not None), default=0)
    longer_line = line if isinstance(line, TraceStep) else other
    shorter_end = b if longer_line is line else a
    if not isinstance(longer_line, TraceStep) or shorter_end is None or shorter_end.left_out:
        return Compared(coverage, None)
    shorter = coverage.steps
    longer = shorter + 1 + sum(isinstance(more, TraceStep) for more in rest)
    steps = (longer, shorter) if longer_line is line else (shorter, longer)
    return Compared(coverage, FirstDifference(coverage.steps, "steps", None, None, steps=steps))


def _compared(events: Iterable[TraceEvent]) -> Iterator[TraceEvent]:
    return (event for event in events if event.kind not in EXPLAINS)


def first_of(
    step: int,
    a: list[TraceEvent],
    b: list[TraceEvent],
    coverage: Coverage,
    names: Mapping[str, str],
) -> FirstDifference | None:
    """The first event of a step that differs; `names` are those of parameters, by identity.

    Weights as the step begins come first, by identity: a model that is garbage may be recorded on
    one side alone.
    """
    seen: set[str] = set()
    call = optimizer = ""
    for event, other in zip_longest(*map(_compared, _weights_first(a, b))):
        if event is not None and event.kind == "call":
            call = event.more.name
        if event is not None and event.kind == "hyperparameters":
            optimizer = event.more.name
        same_key = event is not None and other is not None and _key(event) == _key(other)
        if same_key and event.digest == other.digest:
            seen.add(event.kind)
            coverage.add(event)
            continue
        first = event or other
        return FirstDifference(
            step,
            "digest" if same_key else "events",
            event,
            other,
            name=names.get(_identity(first.identity), ""),
            others=_others(first.kind, a, b) if same_key else (0, 0),
            after=frozenset(seen),
            call=call,
            optimizer=optimizer,
        )
    return None


def _weights_first(a: list[TraceEvent], b: list[TraceEvent]) -> list[list[TraceEvent]]:
    """The events of both sides, the weights that both have in front, in one order."""
    sides = [[e for e in side if e.kind in WEIGHTS] for side in (a, b)]
    both = _in_both(*sides)
    if not both[0]:  # not one in common: that is a difference
        return [a, b]
    rest = [[e for e in side if e.kind not in WEIGHTS] for side in (a, b)]
    return [both[0] + rest[0], both[1] + rest[1]]


def changed(
    expected: Hyperparameters, actual: Hyperparameters, form: str = "{expected} and {actual}"
) -> str:
    """The first hyperparameter that differs, and its values in this form; empty if none does."""
    for name, groups in expected.items():
        for group, other in zip(groups, actual.get(name, []), strict=False):
            for key, value in group.items():
                if other.get(key) != value:
                    values = {"expected": _number(value), "actual": _number(other.get(key))}
                    return f"{NAMES.get(key, key)} {form.format(**values)}"
    return ""


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _key(event: TraceEvent) -> tuple[str, str, str]:
    return event.kind, event.identity, event.more.name


def _others(kind: str, a: list[TraceEvent], b: list[TraceEvent]) -> tuple[int, int]:
    """How many events of a kind differ, and how many there are on both sides."""
    sides = [{e.identity: e.digest for e in side if e.kind == kind} for side in (a, b)]
    both = sides[0].keys() & sides[1].keys()
    return sum(sides[0][identity] != sides[1][identity] for identity in both), len(both)


def _generators(line: TraceStep) -> dict[str, str]:
    return {e.identity: e.digest or "" for e in line.events if e.kind == "generator"}


def _explained(
    first: FirstDifference,
    step: TraceStep,
    other: TraceStep,
    before: Mapping[str, str],
    following: Mapping[str, str],
) -> FirstDifference:
    """With the generators that differ where the step begins, and which were drawn from.

    `before` and `following` are the generators of the first side a step before and a step later.
    """
    a, b = _generators(step), _generators(other)
    differ = tuple(name for name in a if name in b and a[name] != b[name])
    drawn = tuple(
        name
        for name in differ
        if before.get(name, a[name]) != a[name] or following.get(name, a[name]) != a[name]
    )
    undrawn = not drawn and all(name in following for name in differ)
    return replace(first, generators=differ, drawn=drawn, undrawn=undrawn)


def _identity(text: str) -> str:
    """The identity of the parameter that a state such as `o0.g0.p3.exp_avg` belongs to."""
    parts = text.split(".")
    return ".".join(parts[:3]) if text.startswith("o") and len(parts) > 3 else text


def weights(line: ProgramLine) -> dict[str, str]:
    """The digests of the parameters where a step begins, or at the end, of more models then."""
    events = line.events if isinstance(line, TraceStep) else line.final
    return {e.identity: e.digest or "" for e in events if e.kind.endswith("parameter")}


def later_step_with(lines: Iterable[ProgramLine], wanted: Mapping[str, str]) -> int | None:
    """The first step after step 0 that begins with these weights; the end counts as one more."""
    for line in lines:
        step = line.step if isinstance(line, TraceStep) else line.steps
        if step > 0 and wanted and wanted.items() <= weights(line).items():
            return step
    return None
