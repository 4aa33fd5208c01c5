"""Whether a training that was killed and resumed equals the one that was not, and if not, why."""

import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from xorbench.judge.first_difference import (
    Coverage,
    FirstDifference,
    Hyperparameters,
    changed,
    first_of,
)
from xorbench.observe.tensors import WIDTHS
from xorbench.observe.trace import TraceEnd, TraceStep

CUT_SHORT: Final = re.compile(
    r"PytorchStreamReader failed|unexpected EOF|UnpicklingError|EOFError|Ran out of input|"
    r"not a (valid )?zip|SafetensorError|incomplete"
)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step of a record, by what a comparison across a resume asks for."""

    step: int
    line: TraceStep
    hyperparameters: Hyperparameters

    def digests(self, *kinds: str) -> dict[str, str]:
        """The digests of the events of these kinds, by kind and identity."""
        return {
            f"{event.kind} {event.identity}": event.digest or ""
            for event in self.line.events
            if event.kind in kinds
        }

    def batch(self) -> list[str | None]:
        """The digests of the batches, in the order in which they were used."""
        return [event.digest for event in self.line.events if event.kind == "batch"]


@dataclass(slots=True)
class ResumeRecord:
    """A record of one process, whole."""

    steps: list[StepRecord] = field(default_factory=list)
    end: TraceEnd | None = None
    names: dict[str, str] = field(default_factory=dict)
    facts: dict[str, tuple[list[int], str]] = field(default_factory=dict)


def read(lines: Iterable[TraceStep | TraceEnd]) -> ResumeRecord:
    """Take in the lines of a trace."""
    record = ResumeRecord()
    hyperparameters: Hyperparameters = {}
    for line in lines:
        for identity, (name, shape, dtype) in line.names.items():
            record.names[identity] = name or record.names.get(identity, "")
            record.facts[identity] = (shape, dtype)
        if isinstance(line, TraceEnd):
            record.end = line
            continue
        hyperparameters = {**hyperparameters, **line.hyperparameters}
        record.steps.append(StepRecord(line.step, line, hyperparameters))
    return record


@dataclass(frozen=True, slots=True)
class Resumed:
    """What comparing a resumed training with the uninterrupted one came to.

    Attributes:
        kill_after: how many steps were complete when it was killed.
        step: the step of the uninterrupted training that it goes on with; None where none matches.
        by: by what that step was found.
        compared: how many steps are equal from there on.
        component: what was not restored, in a word or two; empty where everything is equal.
        said: what it looks like.
        at: the step in which it shows, counted as in the uninterrupted training.
        generators: the generators that were not restored, and are drawn from later.
        anew: whether it starts with the first weights of all.
    """

    kill_after: int
    step: int | None
    by: str
    compared: int = 0
    component: str = ""
    said: str = ""
    at: int | None = None
    generators: tuple[str, ...] = ()
    anew: bool = False


def compare(
    whole: ResumeRecord, second: ResumeRecord, resumed: ResumeRecord, kill_after: int
) -> Resumed:
    """Compare the resumed training with the uninterrupted one, `whole`.

    `second` is the run that was killed; what it has in common with `whole` is reproducible.
    """
    start = resumed.steps[0]
    step, by = _aligned(whole, start, kill_after)
    if step is None:
        said = "the weights that it starts with are none that the uninterrupted run had"
        return Resumed(kill_after, None, by, component="weights", said=said)
    lost = _lost_generators(whole, second, resumed, step)
    found = Resumed(kill_after, step, by, generators=lost, anew=step == 0)
    if by != "weights":
        said = _described(whole, start, step)
        return replace(found, component="weights", said=said, at=step)
    at = Meeting(whole, resumed, whole.steps[step], start, lost)
    missing = _missing(at)
    if missing is not None:
        return replace(found, component=missing[0], said=missing[1], at=step)
    return _followed(at, found)


# Where it goes on


def _aligned(whole: ResumeRecord, start: StepRecord, kill_after: int) -> tuple[int | None, str]:
    """The step of the whole run at which the resumed one begins, and by what it was found."""
    steps = whole.steps[: kill_after + 1]
    weights = start.digests("parameter")
    same = [one for one in steps if weights and one.digests("parameter") == weights]
    if same:
        return max(same, key=lambda one: _likeness(one, start)).step, "weights"
    counters = _counters(start)
    same = [one for one in steps if counters and _counters(one) == counters]
    if same:
        return same[-1].step, "the optimizer's step count"
    same = [one for one in steps if one.batch() and one.batch() == start.batch()]
    if same:
        return same[-1].step, "the batch"
    return None, ""


def _likeness(one: StepRecord, start: StepRecord) -> tuple[bool, bool, bool, bool, int]:
    """How much of the rest is equal too, in the order in which it tells steps apart."""
    return (
        one.digests("buffer") == start.digests("buffer"),
        one.digests("state") == start.digests("state"),
        one.digests("hyperparameters") == start.digests("hyperparameters"),
        one.batch() == start.batch(),
        one.step,
    )


def _counters(one: StepRecord) -> dict[str, str]:
    return {k: v for k, v in one.digests("state").items() if k.endswith(".step")}


# What it does not have


Found = tuple[str, str] | None  # what was not restored, and what it looks like


@dataclass(frozen=True, slots=True)
class Meeting:
    """A step of the resumed run and the one of the whole run that it must equal."""

    whole: ResumeRecord
    resumed: ResumeRecord
    expected: StepRecord
    found: StepRecord
    lost: tuple[str, ...]  # generators that were not restored

    def digests(self, kind: str) -> tuple[dict[str, str], dict[str, str]]:
        """The digests of a kind of events on both sides."""
        return self.expected.digests(kind), self.found.digests(kind)


def _missing(at: Meeting) -> Found:
    """What is not as it was, what is restored before what follows from it."""
    return next((found for look in LOOKS if (found := look(at)) is not None), None)


def _buffers(at: Meeting) -> Found:
    name = _first_differing(*at.digests("buffer"))
    return None if name is None else ("buffers", _looks_like(at, name, "buffer"))


def _state(at: Meeting) -> Found:
    a, b = at.digests("state")
    if a and not b:
        kinds = dict.fromkeys(key.rpartition(".")[2] for key in a)
        return "optimizer state", f"the state of the optimizer ({', '.join(kinds)}) is empty"
    name = _first_differing(a, b)
    return None if name is None else ("optimizer state", _looks_like(at, name, "state"))


def _other(at: Meeting) -> Found:
    a, b = at.digests("other")
    name = _first_differing({k: a[k] for k in a if k in b}, {k: b[k] for k in b if k in a})
    if name is None:
        return None
    parameter = _name(at, name.partition(" ")[2])
    what = f"{parameter} of another model that the program calls, such as an average (EMA),"
    return "another model", f"{what} {_as_when(at, name, 'other')}"


def _hyperparameters(at: Meeting) -> Found:
    expected, found = at.digests("hyperparameters")
    if expected == found:
        return None
    said = changed(
        at.expected.hyperparameters, at.found.hyperparameters, "{found}, expected {expected}"
    )
    when = [one.step for one in at.whole.steps if one.digests("hyperparameters") == found]
    told = f", as in step {when[0]}" if when else ""
    return "hyperparameters", f"{said}{told}: the scheduler was not restored, or is off by steps"


def _calls(at: Meeting) -> Found:
    counts = [
        [sum(event.kind == kind for event in one.line.events) for kind in ("call", "loss")]
        for one in (at.expected, at.found)
    ]
    if counts[0] == counts[1]:
        return None
    return (
        "accumulation",
        f"the step has {counts[1][1]} backward passes and {counts[1][0]} calls, expected"
        f" {counts[0][1]} and {counts[0][0]}: the checkpoint was saved within a step",
    )


def _batch(at: Meeting) -> Found:
    expected, found = at.expected, at.found.batch()
    if expected.batch() == found:
        return None
    when = [one.step for one in at.whole.steps if one.batch() == found]
    if when:
        nearest = min(when, key=lambda step: abs(step - expected.step))
        apart = nearest - expected.step
        why = {1: "one was skipped", -1: "one came again"}.get(
            apart, "some were skipped" if apart > 0 else "the data order restarted"
        )
        return "data order", f"the batch is that of step {nearest}: {why}"
    if at.lost:
        return "generators", _generators_said(at, "the batch is another one")
    return "data order", "the batch is none that the uninterrupted run used"


def _loss(at: Meeting) -> Found:
    first = first_of(
        at.expected.step, at.expected.line.events, at.found.line.events, Coverage(), {}
    )
    if first is None:
        return None
    if first.event.kind != "loss" or first.a is None or first.b is None:
        return "forward", f"{first.event.kind} {first.event.identity} differs"
    a, b = first.a.more.value, first.b.more.value
    if a and b and _power_of_two(b / a):
        return "loss scale", f"the loss is {b / a:g} times what is expected: another loss scale"
    if at.lost:
        return "generators", _generators_said(at, "the loss differs")
    return "forward", "the loss differs, though weights, state and batch are equal"


LOOKS: Final = (_buffers, _state, _other, _hyperparameters, _calls, _batch, _loss)


def _power_of_two(ratio: float) -> bool:
    return ratio > 0 and ratio != 1 and math.frexp(ratio)[0] == 0.5


def _generators_said(at: Meeting, what: str) -> str:
    told = []
    for name in at.lost:
        key = f"generator {name}"
        wanted = at.resumed.steps[0].digests("generator").get(key)
        when = [one.step for one in at.whole.steps if one.digests("generator").get(key) == wanted]
        told.append(f"{name}{f' (it was as in step {when[0]})' if when else ''}")
    return f"{what}: the generator {', '.join(told)} was not restored"


def _first_differing(a: Mapping[str, str], b: Mapping[str, str]) -> str | None:
    return next((key for key in {**a, **b} if a.get(key) != b.get(key)), None)


def _looks_like(at: Meeting, key: str, kind: str) -> str:
    identity = key.partition(" ")[2]
    state = identity.split(".", 3)[3] if kind == "state" and identity.count(".") >= 3 else ""
    name = _name(at, identity)
    what = f"the optimizer's state {state} of {name}" if state else f"{kind} {name}"
    return f"{what} {_as_when(at, key, kind)}"


def _name(at: Meeting, identity: str) -> str:
    """The readable name of a parameter, a buffer, or the parameter that a state belongs to."""
    parameter = ".".join(identity.split(".")[:3])
    names = at.whole.names | at.resumed.names
    return names.get(identity) or names.get(parameter) or identity


def _as_when(at: Meeting, key: str, kind: str) -> str:
    """What a value that is not the expected one looks like."""
    found = at.found.digests(kind).get(key)
    if found is None:
        return "is missing: not restored"
    identity = key.partition(" ")[2]
    facts = at.whole.facts
    known = facts.get(identity) or facts.get(".".join(identity.split(".")[:3]))
    shapes = [*([known] if known else []), ([], "float32")]
    if any(found == zero_digest(shape, dtype) for shape, dtype in shapes):
        return "is zero: not restored"
    when = [one.step for one in at.whole.steps if one.digests(kind).get(key) == found]
    return f"is that of step {when[0]}: not restored" if when else "is another one"


def zero_digest(shape: Sequence[int], dtype: str) -> str:
    """The digest of a tensor of zeros (docs/trace-format.md)."""
    size = WIDTHS.get(dtype, 4)
    for length in shape:
        size *= length
    seed = mix(zlib.crc32(f"torch.{dtype} {list(shape)} {size}".encode()))
    return f"{mix(1 ^ mix(seed)):016x}"


def mix(value: int) -> int:
    """SplitMix64's step, as the recorder has it."""
    mask = (1 << 64) - 1
    value = (value + 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def _described(whole: ResumeRecord, start: StepRecord, step: int) -> str:
    """How weights differ that no step of the whole run had."""
    expected, found = whole.steps[step].digests("parameter"), start.digests("parameter")
    differing = [key for key in expected if expected[key] != found.get(key)]
    names = [whole.names.get(key.partition(" ")[2], key.partition(" ")[2]) for key in differing]
    return f"{len(differing)} of {len(expected)} parameters are others, the first {names[0]}"


def _lost_generators(
    whole: ResumeRecord, second: ResumeRecord, resumed: ResumeRecord, step: int
) -> tuple[str, ...]:
    """Generators that are reproducible, were not restored, and are drawn from later."""
    expected = whole.steps[step].digests("generator")
    found = resumed.steps[0].digests("generator")
    at_kill = second.steps[step].digests("generator") if step < len(second.steps) else expected
    names = []
    for key, state in expected.items():
        later = {one.digests("generator").get(key) for one in whole.steps[step + 1 :]}
        if found.get(key) != state and at_kill.get(key) == state and later - {state}:
            names.append(key.partition(" ")[2])
    return tuple(names)


# What follows


def _followed(at: Meeting, found: Resumed) -> Resumed:
    """Compare the steps after the first one, and the ends."""
    begin = at.expected.step
    for one, expected in zip(at.resumed.steps, at.whole.steps[begin:], strict=False):
        missing = _missing(replace(at, expected=expected, found=one))
        if missing is not None:
            done, step = expected.step - begin, expected.step
            return replace(found, compared=done, component=missing[0], said=missing[1], at=step)
    compared = min(len(at.resumed.steps), len(at.whole.steps) - begin)
    return _ends(at, replace(found, compared=compared), begin + compared)


def _ends(at: Meeting, found: Resumed, step: int) -> Resumed:
    a, b = at.whole.end, at.resumed.end
    if a is None or b is None:
        return found
    steps = (len(at.whole.steps) - at.expected.step, len(at.resumed.steps))
    if steps[0] != steps[1]:
        said = f"it makes {steps[1]} more steps, expected {steps[0]}"
        return replace(found, component="number of steps", said=said, at=step)
    first = first_of(step, a.final, b.final, Coverage(), at.whole.names)
    if first is not None:
        return replace(found, component="weights", said=_final(first), at=step)
    ones, others = _final_others(a), _final_others(b)
    name = _first_differing(
        {k: ones[k] for k in ones if k in others}, {k: others[k] for k in others if k in ones}
    )
    if name is not None:
        said = f"{_name(at, name)} of another model, such as an average (EMA), differs at the end"
        return replace(found, component="another model", said=said, at=step)
    return found


def _final(first: FirstDifference) -> str:
    return f"{first.event.kind} {first.name or first.event.identity} differs"


def _final_others(end: TraceEnd) -> dict[str, str]:
    return {e.identity: e.digest or "" for e in end.final if e.kind == "final other"}
