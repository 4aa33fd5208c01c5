"""What a resumed training has not as the uninterrupted one has it, and what that looks like."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from xorbench.judge.first_difference import changed
from xorbench.judge.resume_record import ResumeRecord, StepRecord, others_of, zero_digest

Found = tuple[str, str] | None  # what was not restored, and what it looks like


@dataclass(frozen=True, slots=True)
class Meeting:
    """A step of the resumed run and the one of the whole run that it must equal.

    Attributes:
        expected, found: the step of the whole run and that of the resumed one.
        lost: generators that differ here, are reproducible, and are drawn from here.
        ignored: buffers that differ where the resumed run begins, by kind and identity.
        prepared: whether the first step of the resumed run has other calls, and ends with the
            gradients that are expected.
    """

    whole: ResumeRecord
    resumed: ResumeRecord
    expected: StepRecord
    found: StepRecord
    lost: tuple[str, ...] = ()
    ignored: frozenset[str] = frozenset()
    prepared: bool = False

    def digests(self, kind: str) -> tuple[dict[str, str], dict[str, str]]:
        """The digests of a kind of events on both sides."""
        return self.expected.digests(kind), self.found.digests(kind)

    def next_found(self) -> StepRecord | None:
        """The step of the resumed run after this one."""
        after = self.found.step - self.resumed.steps[0].step + 1
        return self.resumed.steps[after] if after < len(self.resumed.steps) else None


def missing(at: Meeting) -> Found:
    """What is not as it was, what is restored before what follows from it."""
    some = AFTER_BACKWARD if at.prepared and at.found is at.resumed.steps[0] else LOOKS
    return next((found for look in some if (found := look(at)) is not None), None)


def _weights(at: Meeting) -> Found:
    name = first_differing(*common(*at.digests("parameter")))
    return None if name is None else ("weights", looks_like(at, name, "parameter"))


def _buffers(at: Meeting) -> Found:
    name = first_differing(*at.digests("buffer"), at.ignored)
    return None if name is None else ("buffers", looks_like(at, name, "buffer"))


def _state(at: Meeting) -> Found:
    a, b = at.digests("state")
    if a and not b:
        kinds = dict.fromkeys(key.rpartition(".")[2] for key in a)
        return "optimizer state", f"the state of the optimizer ({', '.join(kinds)}) is empty"
    name = first_differing(a, b)
    return None if name is None else ("optimizer state", looks_like(at, name, "state"))


def _other(at: Meeting) -> Found:
    """Models that are called and not trained, known by the names of their parameters."""
    expected = others_of(at.expected.line.events, "other")
    for model in others_of(at.found.line.events, "other"):
        same = [one for one in expected if one.keys() == model.keys()]
        if not same or model in same:
            continue
        nearest = max(same, key=lambda one: sum(one[k] == model[k] for k in one))
        name = next(k for k in model if model[k] != nearest[k])
        what = f"{name} of another model that the program calls, such as an average (EMA),"
        weights = set(at.found.digests("parameter").values())
        like = "is that of the trained model" if model[name] in weights else "is another one"
        return "another model", f"{what} {like}"
    return None


def _hyperparameters(at: Meeting) -> Found:
    expected, found = at.expected.own_hyperparameters(), at.found.own_hyperparameters()
    said = changed(expected, found, "{found}, expected {expected}")
    if not said:
        return None
    when = [one.step for one in at.whole.steps if one.own_hyperparameters() == found]
    nearest = min(when, key=lambda step: abs(step - at.expected.step), default=None)
    told = "" if nearest is None else f", as in step {nearest}"
    why = "the scheduler was not restored, or is off by steps"
    if not said.startswith("learning rate"):
        why = "the optimizer's groups were not restored"
    return "hyperparameters", f"{said}{told}: {why}"


def _scale(at: Meeting) -> Found:
    """A loss that is a power of two times the expected one, from the same batch."""
    if at.expected.batches()[:1] != at.found.batches()[:1]:
        return None
    for a, b in zip(at.expected.losses(), at.found.losses(), strict=False):
        if a.digest == b.digest:
            continue
        x, y = a.more.value, b.more.value
        if x and y and math.isfinite(x) and math.isfinite(y) and _power_of_two(y / x):
            said = f"the loss is {y / x:g} times what is expected: another loss scale"
            return "loss scale", said
        return None
    return None


def _power_of_two(ratio: float) -> bool:
    return ratio > 0 and ratio != 1 and math.frexp(ratio)[0] == 0.5


def _mode(at: Meeting) -> Found:
    """Training calls on one side alone: `train()` or `eval()` decides what is one."""
    expected, found = at.expected.count("call"), at.found.count("call")
    if bool(expected) == bool(found):
        return None
    mode = "evaluation" if expected else "training"
    return (
        "training mode",
        f"the model is called in {mode} mode, in the uninterrupted run it is not",
    )


def _within_step(at: Meeting) -> Found:
    """A step that begins within one of the whole run, as after a checkpoint in an accumulation."""
    expected, found = at.expected.batches(), at.found.batches()
    counts = [(one.count("loss"), one.count("call")) for one in (at.expected, at.found)]
    begins = expected.index(found[0]) if found and found[0] in expected else 0
    if counts[0] == counts[1] and not begins:
        return None
    if begins:
        said = f"the step begins with the batch of call {begins} of the step"
    else:
        said = f"the step has {_passes(*counts[1])}, expected {_passes(*counts[0])}"
    if begins and counts[0] != counts[1]:
        said += f" and has {_passes(*counts[1])}, expected {_passes(*counts[0])}"
    return "accumulation", f"{said}: the checkpoint was saved within a step"


def _passes(losses: int, calls: int) -> str:
    passes = f"{losses} backward {'pass' if losses == 1 else 'passes'}"
    return passes if losses == calls else f"{passes} and {calls} calls"


def _batch(at: Meeting) -> Found:
    expected, found = at.expected, at.found.batch()
    if expected.batch() == found:
        return None
    when = [one.step for one in at.whole.steps if one.batch() == found]
    if when:
        nearest = min(when, key=lambda step: abs(step - expected.step))
        begins = found == at.whole.steps[0].batch()
        why = _moved(nearest - expected.step, begins=begins)
        also = f", and the generator {told(at)} was not restored" if at.lost else ""
        return "data order", f"the batch is that of step {nearest}: {why}{also}"
    if at.lost:
        later = at.next_found()
        late = later is not None and later.batch() == expected.batch()
        why = ": it was restored after a batch had been drawn" if late else ""
        return "generators", f"{_generators_said(at, 'the batch is another one')}{why}"
    return (
        "data order",
        "the batch is none that the uninterrupted run used, and the global generators are as"
        " expected: it comes from another one (numpy.random.Generator, torch.Generator), or was"
        " drawn before they were restored",
    )


def _moved(apart: int, *, begins: bool) -> str:
    restarted = "the data order restarted, or the epoch of the sampler is not restored"
    if apart == 1:
        return "one was skipped"
    if apart > 0:
        return f"{apart} were skipped, or the order is that of another epoch"
    return "one came again" if apart == -1 and not begins else restarted


def _forward(at: Meeting) -> Found:
    """A loss, or what a later call is given, that differs though all that goes in is equal."""
    kinds = ("call", "input", "loss")
    sides = [[e for e in one.line.events if e.kind in kinds] for one in (at.expected, at.found)]
    for a, b in zip(*sides, strict=False):
        if (a.kind, a.identity, a.digest) == (b.kind, b.identity, b.digest):
            continue
        what = "the loss" if a.kind == "loss" else f"{a.kind} {a.identity}"
        if at.lost:
            return "generators", _generators_said(at, f"{what} differs")
        return "forward", f"{what} differs, though weights, state and batch are equal"
    return None


def _gradients(at: Meeting) -> Found:
    a, b = at.digests("gradient")
    alone = ((key, digest) for key, digest in {**a, **b}.items() if (key in a) != (key in b))
    zero = frozenset(key for key, digest in alone if is_zero(at, key, digest))
    name = first_differing(a, b, zero)
    if name is None:
        return None
    parameter = _name(at, name.partition(" ")[2])
    if name not in a or name not in b:
        has = f"{parameter} has {'no' if name in a else 'a'} gradient"
        return "gradients", f"{has}: which parameters are trained was not restored"
    what = f"the gradient of {parameter} differs, though the loss is equal"
    return ("generators", _generators_said(at, what)) if at.lost else ("gradients", what)


LOOKS: Final[Sequence[Callable[[Meeting], Found]]] = (
    _weights,
    _scale,
    _mode,
    _within_step,
    _buffers,
    _state,
    _other,
    _hyperparameters,
    _batch,
    _forward,
    _gradients,
)

# What is left to compare where the weights were loaded after the step had begun.
AFTER_BACKWARD: Final = (_state, _other, _hyperparameters, _gradients)


# Generators


def unlike(
    whole: ResumeRecord, second: ResumeRecord, expected: StepRecord, found: StepRecord
) -> tuple[str, ...]:
    """Generators that differ where a step begins, though they are the same in every run.

    A sound program may leave a generator that it does not use in any state.
    """
    a, b = expected.digests("generator"), found.digests("generator")
    return tuple(
        key.partition(" ")[2]
        for key in a
        if key in b and a[key] != b[key] and _reproducible(whole, second, key)
    )


def _reproducible(whole: ResumeRecord, second: ResumeRecord, key: str) -> bool:
    """Whether it was in the same state in both runs, in the last step before the kill."""
    last = min(len(whole.steps), len(second.steps)) - 1
    states = [one.steps[last].digests("generator").get(key) for one in (whole, second)]
    return last >= 0 and states[0] == states[1]


def drawn_around(whole: ResumeRecord, name: str, step: int) -> bool:
    """Whether the whole run draws from a generator before or in this step."""
    key = f"generator {name}"
    near = whole.steps[max(0, step - 1) : step + 2]
    return step + 1 >= len(whole.steps) or len({s.digests("generator").get(key) for s in near}) > 1


def drawn_later(whole: ResumeRecord, name: str, step: int) -> bool:
    """Whether the whole run draws from a generator after this step has begun."""
    key = f"generator {name}"
    return len({one.digests("generator").get(key) for one in whole.steps[step:]}) > 1


def told(at: Meeting) -> str:
    """The generators that were lost, each with the step that it was in."""
    names = []
    for name in at.lost:
        key = f"generator {name}"
        state = at.found.digests("generator").get(key)
        when = [one.step for one in at.whole.steps if one.digests("generator").get(key) == state]
        names.append(f"{name} (as in step {when[0]})" if when else name)
    return ", ".join(names)


def _generators_said(at: Meeting, what: str) -> str:
    are = "generator" if len(at.lost) == 1 else "generators"
    verb = "was" if len(at.lost) == 1 else "were"
    return f"{what}: the {are} {told(at)} {verb} not restored, or drawn from since"


# What a value looks like


def common(a: Mapping[str, str], b: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What both sides have."""
    return {k: a[k] for k in a if k in b}, {k: b[k] for k in b if k in a}


def first_differing(
    a: Mapping[str, str], b: Mapping[str, str], ignored: frozenset[str] = frozenset()
) -> str | None:
    """The first key with another value, or that one side has alone."""
    return next((k for k in {**a, **b} if k not in ignored and a.get(k) != b.get(k)), None)


def looks_like(at: Meeting, key: str, kind: str) -> str:
    """A value that is not the expected one, in words."""
    identity = key.partition(" ")[2]
    state = identity.split(".", 3)[3] if kind == "state" and identity.count(".") >= 3 else ""
    name = _name(at, identity)
    what = f"the optimizer's state {state} of {name}" if state else f"{kind} {name}"
    return f"{what} {_as_when(at, key, kind)}"


def _name(at: Meeting, identity: str) -> str:
    """The readable name of a parameter, a buffer, or the parameter that a state belongs to."""
    parameter = ".".join(identity.split(".")[:3])
    names = at.whole.names | {k: v for k, v in at.resumed.names.items() if v}
    return names.get(identity) or names.get(parameter) or identity


def _as_when(at: Meeting, key: str, kind: str) -> str:
    """What a value that is not the expected one looks like."""
    found = at.found.digests(kind).get(key)
    if found is None:
        return "is missing: not restored"
    if is_zero(at, key, found):
        return "is zero: not restored"
    expected = at.expected.digests(kind)
    if key not in expected:
        return "is new: the uninterrupted run does not have it"
    when = [one.step for one in at.whole.steps if one.digests(kind).get(key) == found]
    if when:
        return f"is that of step {when[0]}: not restored"
    elsewhere = next((other for other, digest in expected.items() if digest == found), None)
    if elsewhere is not None:
        other = _name(at, elsewhere.partition(" ")[2])
        return f"is that of {other}: they are in another order"
    return "is another one"


def is_zero(at: Meeting, key: str, digest: str) -> bool:
    """Whether a digest is that of zeros of the shape and type that the tensor has."""
    identity = key.partition(" ")[2]
    facts = at.whole.facts
    known = facts.get(identity) or facts.get(".".join(identity.split(".")[:3]))
    shapes = [*([known] if known else []), ([], "float32"), ([], "int64")]
    return any(digest == zero_digest(shape, dtype) for shape, dtype in shapes)
