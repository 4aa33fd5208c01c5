"""The first difference of two records of a training, in program order."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from typing import Any, Final, Literal

from xorbench.records.trace import ProgramLine, TraceEnd, TraceEvent, TraceStep

# Events that explain a difference and are not compared. In a correct training, unused generators
# may have any state, and evaluation and averaging may happen at any time.
VALUES: Final = ("decision", "label", "draw")  # compared up to rounding
REPLICATED: Final = ("replicated gradient", "replicated buffer")  # compared between ranks
EXPLAINS: Final = ("generator", "context", "note", "other", "final other", *REPLICATED, *VALUES)
DETAIL: Final = ("data", "operator", "output", "gradient", "state", "new state", "new parameter")
WEIGHTS: Final = ("parameter", "buffer")
How = Literal["digest", "events", "steps"]

NAMES: Final = {"lr": "learning rate (lr)"}

Hyperparameters = Mapping[str, list[dict[str, Any]]]  # the groups of each optimizer


@dataclass(frozen=True, slots=True)
class FirstDifference:
    """The first event that differs.

    Attributes:
        step: its step; the number of steps for the final parameters.
        how: a different digest, a different event, or a different number of steps.
        a, b: the event on both sides; None if a side has no further event.
        name: the readable name of a parameter or buffer.
        generators: the global generators that differ when the step begins.
        used: the ones that the first side used in this step or the previous one.
        unused: whether it certainly used none of them.
        same_kind: the number of differing events of this kind in the step, and of all of them.
        after: the kinds of the earlier events in its step.
        call: the module of the event's call.
        optimizer: the optimizer whose step has begun, if any.
        values: the differing hyperparameter, with both values.
        steps: the number of steps on both sides, if these differ.
        at_end: whether it is after the last complete step.
    """

    step: int
    how: How
    a: TraceEvent | None
    b: TraceEvent | None
    name: str = ""
    generators: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    unused: bool = False
    same_kind: tuple[int, int] = (0, 0)
    after: frozenset[str] = frozenset()
    call: str = ""
    optimizer: str = ""
    values: str = ""
    steps: tuple[int, int] = (0, 0)
    at_end: bool = False

    @property
    def event(self) -> TraceEvent:
        """The event of the first side, else of the second."""
        event = self.a or self.b
        return TraceEvent("steps", "", None) if event is None else event


@dataclass(slots=True)
class Coverage:
    """The events that were compared, and those that could not be compared.

    Attributes:
        steps: the number of steps on both sides.
        parameters, buffers: the identities that were compared.
        counts: the number of compared events of each kind.
        not_recorded: the number of events without a digest, by reason.
        ends: the last line of each record, with the final weights; None if it is missing.
        steps_not_recorded: the steps missing on one side, because its record was full.
        events_not_recorded: the events missing on one side, in very long steps.
        errors: errors of the recorder.
    """

    steps: int = 0
    parameters: set[str] = field(default_factory=set)
    buffers: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    not_recorded: Counter[str] = field(default_factory=Counter)
    ends: tuple[TraceEnd | None, TraceEnd | None] = (None, None)
    steps_not_recorded: int = 0
    events_not_recorded: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether both records have their last line."""
        return None not in self.ends

    def add(self, event: TraceEvent) -> None:
        """Count an event that is identical on both sides."""
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
    """The result of comparing two records; `first` is None if nothing differs."""

    coverage: Coverage
    first: FirstDifference | None


def compare(
    a: Iterable[ProgramLine],
    b: Iterable[ProgramLine],
    at_start: Mapping[str, str] | None = None,
    ignored: Sequence[str] = (),
) -> Compared:
    """Compare two records step by step, up to the first difference.

    `at_start` are the digests of the generators of the first side before step 0; `ignored` are
    kinds of events that are not compared.
    """
    coverage, names, before = Coverage(), dict[str, str](), dict(at_start or {})
    in_force: list[Hyperparameters] = [{}, {}]
    lines_a, lines_b = iter(a), iter(b)
    for step_a, step_b in zip_longest(lines_a, lines_b):
        if step_a is not None:
            names |= {identity: name for identity, (name, _, _) in step_a.names.items()}
        if isinstance(step_a, TraceEnd) and isinstance(step_b, TraceEnd):
            return _ends(step_a, step_b, coverage, names)
        if not isinstance(step_a, TraceStep) or not isinstance(step_b, TraceStep):
            return _uneven(step_a, step_b, chain(lines_a, lines_b), coverage)
        coverage.errors += [*step_a.errors, *step_b.errors]
        coverage.events_not_recorded += max(step_a.events_left_out, step_b.events_left_out)
        in_force = [
            {**old, **line.hyperparameters}
            for old, line in zip(in_force, (step_a, step_b), strict=True)
        ]
        events = [[e for e in line.events if e.kind not in ignored] for line in (step_a, step_b)]
        first = first_of(step_a.step, events[0], events[1], coverage, names)
        if first is not None:
            first = replace(first, values=changed(in_force[0], in_force[1]))
            after = next(lines_a, None)
            following = _generators(after) if isinstance(after, TraceStep) else {}
            return Compared(coverage, _explained(first, step_a, step_b, before, following))
        coverage.steps += 1
        before = _generators(step_a)
    return Compared(coverage, None)


def _ends(a: TraceEnd, b: TraceEnd, coverage: Coverage, names: Mapping[str, str]) -> Compared:
    coverage.steps_not_recorded = max(a.left_out, b.left_out)
    coverage.ends = (a, b)
    coverage.events_not_recorded += max(a.events_left_out, b.events_left_out)
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
    """The final weights of both sides in the same order; garbage may exist on one side only."""
    events_b = {_key(event): event for event in b}
    both = [(event, events_b[_key(event)]) for event in a if _key(event) in events_b]
    return [[event for event, _ in both], [event for _, event in both]]


def _uneven(
    line_a: ProgramLine | None,
    line_b: ProgramLine | None,
    rest: Iterable[ProgramLine],
    coverage: Coverage,
) -> Compared:
    """One side has no further step: a difference unless its record was cut short.

    `rest` are the further lines of the longer side.
    """
    a, b = (end if isinstance(end, TraceEnd) else None for end in (line_a, line_b))
    coverage.ends = (a, b)
    coverage.steps_not_recorded = max(
        (end.left_out for end in (a, b) if end is not None), default=0
    )
    longer_line = line_a if isinstance(line_a, TraceStep) else line_b
    shorter_end = b if longer_line is line_a else a
    if not isinstance(longer_line, TraceStep) or shorter_end is None or shorter_end.left_out:
        return Compared(coverage, None)
    shorter = coverage.steps
    longer = shorter + 1 + sum(isinstance(more, TraceStep) for more in rest)
    steps = (longer, shorter) if longer_line is line_a else (shorter, longer)
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
    """The first differing event of a step; `names` are parameter names by identity.

    Weights at the start of the step come first, by identity, because a garbage model may be
    recorded on one side only.
    """
    seen: set[str] = set()
    call = optimizer = ""
    for event_a, event_b in zip_longest(*map(_compared, _weights_first(a, b))):
        if event_a is not None and event_a.kind == "call":
            call = event_a.more.name
        if event_a is not None and event_a.kind == "hyperparameters":
            optimizer = event_a.more.name
        same_key = event_a is not None and event_b is not None and _key(event_a) == _key(event_b)
        if same_key and event_a.digest == event_b.digest:
            seen.add(event_a.kind)
            coverage.add(event_a)
            continue
        first = event_a or event_b
        return FirstDifference(
            step,
            "digest" if same_key else "events",
            event_a,
            event_b,
            name=names.get(parameter_of(first.identity), ""),
            same_kind=_count_kind(first.kind, a, b) if same_key else (0, 0),
            after=frozenset(seen),
            call=call,
            optimizer=optimizer,
        )
    return None


def _weights_first(a: list[TraceEvent], b: list[TraceEvent]) -> list[list[TraceEvent]]:
    """The events of both sides, with their common weights first and in the same order."""
    sides = [[e for e in side if e.kind in WEIGHTS] for side in (a, b)]
    both = _in_both(*sides)
    if not both[0]:  # no common weight is a difference
        return [a, b]
    rest = [[e for e in side if e.kind not in WEIGHTS] for side in (a, b)]
    return [both[0] + rest[0], both[1] + rest[1]]


def changed(
    expected: Hyperparameters, actual: Hyperparameters, form: str = "{expected} and {actual}"
) -> str:
    """The first differing hyperparameter and its values in this form; else empty."""
    for name, groups in expected.items():
        for group, actual_group in zip(groups, actual.get(name, []), strict=False):
            for key, value in group.items():
                if actual_group.get(key) != value:
                    values = {"expected": _number(value), "actual": _number(actual_group.get(key))}
                    return f"{NAMES.get(key, key)} {form.format(**values)}"
    return ""


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _key(event: TraceEvent) -> tuple[str, str, str]:
    return event.kind, event.identity, event.more.name


def _count_kind(kind: str, a: list[TraceEvent], b: list[TraceEvent]) -> tuple[int, int]:
    """The number of differing events of a kind, and of all on both sides."""
    sides = [{e.identity: e.digest for e in side if e.kind == kind} for side in (a, b)]
    both = sides[0].keys() & sides[1].keys()
    return sum(sides[0][identity] != sides[1][identity] for identity in both), len(both)


def _generators(line: TraceStep) -> dict[str, str]:
    return {e.identity: e.digest or "" for e in line.events if e.kind == "generator"}


def _explained(
    first: FirstDifference,
    step_a: TraceStep,
    step_b: TraceStep,
    before: Mapping[str, str],
    following: Mapping[str, str],
) -> FirstDifference:
    """Add the generators that differ when the step begins, and which of them were used.

    `before` and `following` are the generators of the first side one step earlier and later.
    """
    a, b = _generators(step_a), _generators(step_b)
    differ = tuple(name for name in a if name in b and a[name] != b[name])
    used = tuple(
        name
        for name in differ
        if before.get(name, a[name]) != a[name] or following.get(name, a[name]) != a[name]
    )
    unused = not used and all(name in following for name in differ)
    return replace(first, generators=differ, used=used, unused=unused)


def parameter_of(text: str) -> str:
    """The identity of the parameter of a state such as `o0.g0.p3.exp_avg`; else the identity."""
    parts = text.split(".")
    return ".".join(parts[:3]) if text.startswith("o") and len(parts) > 3 else text


def weights(line: ProgramLine) -> dict[str, str]:
    """The digests of the parameters when a step begins, or at the end."""
    events = line.events if isinstance(line, TraceStep) else line.final
    return {e.identity: e.digest or "" for e in events if e.kind.endswith("parameter")}


def later_step_with(lines: Iterable[ProgramLine], wanted: Mapping[str, str]) -> int | None:
    """The first step after step 0 that begins with these weights; the end counts as a step."""
    for line in lines:
        step = line.step if isinstance(line, TraceStep) else line.steps
        if step > 0 and wanted and wanted.items() <= weights(line).items():
            return step
    return None
