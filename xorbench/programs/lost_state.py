"""Whether a resumed training equals the uninterrupted one, and which state was not restored."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from xorbench.programs.first_difference import changed
from xorbench.programs.resumed_run import (
    ResumeRecord,
    StepRecord,
    aligned,
    common,
    from_scratch,
    others_of,
    prepared,
    renamed_as,
    same_weights,
    zero_digest,
)
from xorbench.records.trace import TraceEnd

# The final weights that are compared, and the component that each belongs to.
FINALS: Final = (
    ("parameter", "weights"),
    ("buffer", "buffers"),
    ("state", "optimizer state"),
)


LostState: TypeAlias = tuple[str, str]  # the component, and how its loss shows


@dataclass(frozen=True, slots=True)
class Resumed:
    """The result of comparing a resumed training with the uninterrupted one.

    Attributes:
        kill_after: how many steps were complete when it was killed.
        step: the step of the uninterrupted training at which it resumed; None if none matches.
        by: what identified that step.
        compared: how many steps are equal from there on.
        component: the state that was not restored; empty where everything is equal.
        text: how that shows.
        differs_at: the step in which it shows, counted as in the uninterrupted training.
        generators: the generators that were not restored, and are drawn from later.
        unneeded: buffers that differed where it began, without effect.
        from_scratch: whether it starts with the initial weights.
        after_kill: whether it starts with weights that the killed run never had.
        ended: whether the records of both runs have their last line.
    """

    kill_after: int
    step: int | None
    by: str
    compared: int = 0
    component: str = ""
    text: str = ""
    differs_at: int | None = None
    generators: tuple[str, ...] = ()
    unneeded: tuple[str, ...] = ()
    from_scratch: bool = False
    after_kill: bool = False
    ended: bool = True


@dataclass(frozen=True, slots=True)
class StepPair:
    """A step of the resumed run and the one of the whole run that it must equal.

    Attributes:
        expected, actual: the step of the whole run and that of the resumed one.
        lost: generators that differ here, are reproducible, and are drawn from here.
        ignored: buffers that differ where the resumed run begins, by kind and identity.
        prepared: whether the first step of the resumed run has other calls, and ends with the
            gradients that are expected.
    """

    whole: ResumeRecord
    resumed: ResumeRecord
    expected: StepRecord
    actual: StepRecord
    lost: tuple[str, ...] = ()
    ignored: frozenset[str] = frozenset()
    prepared: bool = False

    def digests(self, kind: str) -> tuple[dict[str, str], dict[str, str]]:
        """The digests of a kind of events on both sides."""
        return self.expected.digests(kind), self.actual.digests(kind)

    def next_actual(self) -> StepRecord | None:
        """The step of the resumed run after this one."""
        after = self.actual.step - self.resumed.steps[0].step + 1
        return self.resumed.steps[after] if after < len(self.resumed.steps) else None


def compare(
    whole: ResumeRecord, second: ResumeRecord, resumed: ResumeRecord, kill_after: int
) -> Resumed:
    """Compare the resumed training with the uninterrupted one, `whole`.

    `second` is the run that was killed; state that it shares with `whole` is reproducible.
    """
    resumed = renamed_as(whole, resumed)
    start = resumed.steps[0]
    late = prepared(whole, start, kill_after)
    step, by = aligned(whole, start, kill_after) if late is None else (late, "weights")
    if step is None:
        return _nowhere(whole, start, kill_after)
    lost = _differing_generators(whole, second, whole.steps[step], start)
    later = tuple(name for name in lost if _drawn_later(whole, name, step))
    scratch = from_scratch(start, step, by)
    result = Resumed(kill_after, step, by, generators=later, from_scratch=scratch)
    if by != "weights":
        text = _weights_text(whole, start, step)
        return replace(result, component="weights", text=text, differs_at=step)
    pair = StepPair(whole, resumed, whole.steps[step], start, prepared=late is not None)
    transient = frozenset[str]() if pair.prepared else _transient(pair)
    followed = _followed(replace(pair, ignored=transient), second, result)
    if followed.component and transient:
        return _followed(pair, second, result)
    names = tuple(whole.names.get(key.partition(" ")[2], key) for key in sorted(transient))
    return replace(followed, unneeded=names)


def _nowhere(whole: ResumeRecord, start: StepRecord, kill_after: int) -> Resumed:
    """The result where the whole run did not have its initial weights until the kill."""
    later = [s.step for s in whole.steps[kill_after + 1 :] if same_weights(s, start)]
    ends = whole.end is not None and _same_as_end(whole.end, start)
    if later or ends:
        step = later[0] if later else len(whole.steps)
        when = f"before step {step}" if later else "at its end"
        text = f"it starts with the weights that the uninterrupted run had {when}, after the kill"
        return Resumed(kill_after, step, "weights", text=text, after_kill=True)
    text = "the weights that it starts with are none that the uninterrupted run had"
    if whole.steps[kill_after].digests("state") and not start.digests("state"):
        text += ", and the state of the optimizer is empty"
    return Resumed(kill_after, None, "", component="weights", text=text)


def _same_as_end(end: TraceEnd, start: StepRecord) -> bool:
    final = {f"parameter {e.identity}": e.digest or "" for e in end.final if "parameter" in e.kind}
    a, b = common(final, start.digests("parameter"))
    return bool(a) and a == b


def _weights_text(whole: ResumeRecord, start: StepRecord, step: int) -> str:
    """How the initial weights differ from those of the step at which it resumed."""
    a, b = common(whole.steps[step].digests("parameter"), start.digests("parameter"))
    differing = [key for key in a if a[key] != b[key]]
    if not differing:
        return "the weights that it starts with are not known"
    first = differing[0].partition(" ")[2]
    name = whole.names.get(first) or first
    what = f"{len(differing)} of {len(a)} parameters, the first {name}, are"
    if len(differing) == len(a):
        what = "every parameter is"
    averages = {
        digest
        for record in whole.steps
        for model in others_of(record.line.events, "other")
        for digest in model.values()
    }
    if all(b[key] in averages for key in differing):
        return f"{what} that of another model, such as an average (EMA)"
    when = {
        record.step
        for record in whole.steps
        if record.digests("parameter").get(differing[0]) == b[differing[0]]
    }
    if not when:
        return f"{what} none of the uninterrupted run"
    those = "that" if len(differing) == len(a) else "those"
    mixed = "the checkpoint mixes steps" if abs(min(when) - step) == 1 else "not restored"
    return f"{what} {those} of step {min(when)}: {mixed}"


# What follows


def _transient(pair: StepPair) -> frozenset[str]:
    """Buffers that differ where it begins, and are equal in the end."""
    a, b = pair.digests("buffer")
    differing = [key for key in {**a, **b} if a.get(key) != b.get(key)]
    ends = [record.end for record in (pair.whole, pair.resumed)]
    finals = [
        {f"buffer {e.identity}": e.digest for e in end.final if e.kind == "final buffer"}
        for end in ends
        if end is not None
    ]
    if len(finals) < 2:
        return frozenset()
    return frozenset(
        key for key in differing if key in finals[0] and finals[0][key] == finals[1].get(key)
    )


def _followed(pair: StepPair, second: ResumeRecord, result: Resumed) -> Resumed:
    """Compare the steps from the first one on, and the ends."""
    begin = pair.expected.step
    for actual, expected in zip(pair.resumed.steps, pair.whole.steps[begin:], strict=False):
        lost = _lost_around(pair, second, expected, actual)
        loss = first_loss(replace(pair, expected=expected, actual=actual, lost=lost))
        if loss is not None:
            done, step = expected.step - begin, expected.step
            component, text = loss
            return replace(result, compared=done, component=component, text=text, differs_at=step)
    compared = min(len(pair.resumed.steps), len(pair.whole.steps) - begin)
    return _ends(pair, replace(result, compared=compared), begin + compared)


def _lost_around(
    pair: StepPair, second: ResumeRecord, expected: StepRecord, actual: StepRecord
) -> tuple[str, ...]:
    """Generators that differ in this step or the one before, and are drawn from there."""
    pairs = [(expected, actual)]
    before = actual.step - pair.resumed.steps[0].step - 1
    if before >= 0:
        pairs.append((pair.whole.steps[expected.step - 1], pair.resumed.steps[before]))
    names = dict.fromkeys(
        name for a, b in pairs for name in _differing_generators(pair.whole, second, a, b)
    )
    return tuple(name for name in names if _drawn_around(pair.whole, name, expected.step))


def _ends(pair: StepPair, result: Resumed, step: int) -> Resumed:
    a, b = pair.whole.end, pair.resumed.end
    if a is None or b is None:
        return replace(result, ended=False)
    steps = (len(pair.whole.steps) - pair.expected.step, len(pair.resumed.steps))
    if steps[0] != steps[1]:
        text = f"it makes {steps[1]} more steps, expected {steps[0]}"
        return replace(result, component="number of steps", text=text, differs_at=step)
    for kind, component in FINALS:
        sides = [
            {e.identity: e.digest or "" for e in end.final if e.kind == f"final {kind}"}
            for end in (a, b)
        ]
        name = first_differing(*common(*sides))
        if name is not None:
            what = "the optimizer's state" if kind == "state" else kind
            text = f"{what} {pair.whole.names.get(name) or name} differs at the end"
            return replace(result, component=component, text=text, differs_at=step)
    return _other_ends(a, b, result, step)


def _other_ends(a: TraceEnd, b: TraceEnd, result: Resumed, step: int) -> Resumed:
    expected = others_of(a.final, "final other")
    for model in others_of(b.final, "final other"):
        same = [other for other in expected if other.keys() == model.keys()]
        if same and model not in same:
            name = next(k for k in model if model[k] != same[0][k])
            text = f"{name} of another model, such as an average (EMA), differs at the end"
            return replace(result, component="another model", text=text, differs_at=step)
    return result


# The state of a step


def first_loss(pair: StepPair) -> LostState | None:
    """The first state that was not restored, causes before consequences."""
    late = pair.prepared and pair.actual is pair.resumed.steps[0]
    lost = (comparison(pair) for comparison in (AFTER_BACKWARD if late else COMPARISONS))
    return next((state for state in lost if state is not None), None)


def _weights(pair: StepPair) -> LostState | None:
    name = first_differing(*common(*pair.digests("parameter")))
    return None if name is None else ("weights", _value_text(pair, name, "parameter"))


def _buffers(pair: StepPair) -> LostState | None:
    name = first_differing(*pair.digests("buffer"), pair.ignored)
    return None if name is None else ("buffers", _value_text(pair, name, "buffer"))


def _state(pair: StepPair) -> LostState | None:
    a, b = pair.digests("state")
    if a and not b:
        kinds = dict.fromkeys(key.rpartition(".")[2] for key in a)
        return "optimizer state", f"the state of the optimizer ({', '.join(kinds)}) is empty"
    name = first_differing(a, b)
    return None if name is None else ("optimizer state", _value_text(pair, name, "state"))


def _other(pair: StepPair) -> LostState | None:
    """Models that are called and not trained, known by the names of their parameters."""
    expected = others_of(pair.expected.line.events, "other")
    for model in others_of(pair.actual.line.events, "other"):
        same = [other for other in expected if other.keys() == model.keys()]
        if not same or model in same:
            continue
        nearest = max(same, key=lambda other: sum(other[k] == model[k] for k in other))
        name = next(k for k in model if model[k] != nearest[k])
        what = f"{name} of another model that the program calls, such as an average (EMA),"
        weights = set(pair.actual.digests("parameter").values())
        like = "is that of the trained model" if model[name] in weights else "is another one"
        return "another model", f"{what} {like}"
    return None


def _hyperparameters(pair: StepPair) -> LostState | None:
    expected, actual = pair.expected.own_hyperparameters(), pair.actual.own_hyperparameters()
    values = changed(expected, actual, "{actual}, expected {expected}")
    if not values:
        return None
    when = [record.step for record in pair.whole.steps if record.own_hyperparameters() == actual]
    nearest = min(when, key=lambda step: abs(step - pair.expected.step), default=None)
    place = "" if nearest is None else f", as in step {nearest}"
    why = "the scheduler was not restored, or is off by steps"
    if not values.startswith("learning rate"):
        why = "the optimizer's groups were not restored"
    return "hyperparameters", f"{values}{place}: {why}"


def _scale(pair: StepPair) -> LostState | None:
    """A loss that is a power of two times the expected one, from the same batch."""
    if pair.expected.batches()[:1] != pair.actual.batches()[:1]:
        return None
    for a, b in zip(pair.expected.losses(), pair.actual.losses(), strict=False):
        if a.digest == b.digest:
            continue
        x, y = a.more.value, b.more.value
        if x and y and math.isfinite(x) and math.isfinite(y) and _power_of_two(y / x):
            text = f"the loss is {y / x:g} times what is expected: another loss scale"
            return "loss scale", text
        return None
    return None


def _power_of_two(ratio: float) -> bool:
    return ratio > 0 and ratio != 1 and math.frexp(ratio)[0] == 0.5


def _mode(pair: StepPair) -> LostState | None:
    """Training calls on one side alone: `train()` or `eval()` decides what is one."""
    expected, actual = pair.expected.count("call"), pair.actual.count("call")
    if bool(expected) == bool(actual):
        return None
    mode = "evaluation" if expected else "training"
    return (
        "training mode",
        f"the model is called in {mode} mode, in the uninterrupted run it is not",
    )


def _within_step(pair: StepPair) -> LostState | None:
    """A step that begins within one of the whole run, as after a checkpoint in an accumulation."""
    expected, actual = pair.expected.batches(), pair.actual.batches()
    counts = [(step.count("loss"), step.count("call")) for step in (pair.expected, pair.actual)]
    begins = expected.index(actual[0]) if actual and actual[0] in expected else 0
    if counts[0] == counts[1] and not begins:
        return None
    if begins:
        text = f"the step begins with the batch of call {begins} of the step"
    else:
        text = f"the step has {_passes(*counts[1])}, expected {_passes(*counts[0])}"
    if begins and counts[0] != counts[1]:
        text += f" and has {_passes(*counts[1])}, expected {_passes(*counts[0])}"
    return "accumulation", f"{text}: the checkpoint was saved within a step"


def _passes(losses: int, calls: int) -> str:
    passes = f"{losses} backward {'pass' if losses == 1 else 'passes'}"
    return passes if losses == calls else f"{passes} and {calls} calls"


def _batch(pair: StepPair) -> LostState | None:
    expected, batch = pair.expected, pair.actual.batch()
    if expected.batch() == batch:
        return None
    when = [record.step for record in pair.whole.steps if record.batch() == batch]
    if when:
        nearest = min(when, key=lambda step: abs(step - expected.step))
        begins = batch == pair.whole.steps[0].batch()
        why = _moved(nearest - expected.step, begins=begins)
        also = (
            f", and the generator {lost_generators_text(pair)} was not restored"
            if pair.lost
            else ""
        )
        return "data order", f"the batch is that of step {nearest}: {why}{also}"
    if pair.lost:
        later = pair.next_actual()
        late = later is not None and later.batch() == expected.batch()
        why = ": it was restored after a batch had been drawn" if late else ""
        return "generators", f"{_generators_text(pair, 'the batch is another one')}{why}"
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


def _forward(pair: StepPair) -> LostState | None:
    """A loss, or what a later call is given, that differs though all that goes in is equal."""
    kinds = ("call", "input", "loss")
    steps = (pair.expected, pair.actual)
    sides = [[event for event in step.line.events if event.kind in kinds] for step in steps]
    for a, b in zip(*sides, strict=False):
        if (a.kind, a.identity, a.digest) == (b.kind, b.identity, b.digest):
            continue
        what = "the loss" if a.kind == "loss" else f"{a.kind} {a.identity}"
        if pair.lost:
            return "generators", _generators_text(pair, f"{what} differs")
        return "forward", f"{what} differs, though weights, state and batch are equal"
    return None


def _gradients(pair: StepPair) -> LostState | None:
    a, b = pair.digests("gradient")
    unmatched = ((k, digest) for k, digest in {**a, **b}.items() if (k in a) != (k in b))
    zero = frozenset(key for key, digest in unmatched if is_zero(pair, key, digest))
    name = first_differing(a, b, zero)
    if name is None:
        return None
    parameter = _name(pair, name.partition(" ")[2])
    if name not in a or name not in b:
        has = f"{parameter} has {'no' if name in a else 'a'} gradient"
        return "gradients", f"{has}: which parameters are trained was not restored"
    what = f"the gradient of {parameter} differs, though the loss is equal"
    return ("generators", _generators_text(pair, what)) if pair.lost else ("gradients", what)


COMPARISONS: Final[Sequence[Callable[[StepPair], LostState | None]]] = (
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

# The rest that is compared where the weights were loaded after the step had begun.
AFTER_BACKWARD: Final = (_state, _other, _hyperparameters, _gradients)


# Generators


def _differing_generators(
    whole: ResumeRecord, second: ResumeRecord, expected: StepRecord, actual: StepRecord
) -> tuple[str, ...]:
    """Generators that differ where a step begins, though they are the same in every run.

    A sound program may leave a generator that it does not use in any state.
    """
    a, b = expected.digests("generator"), actual.digests("generator")
    return tuple(
        key.partition(" ")[2]
        for key in a
        if key in b and a[key] != b[key] and _reproducible(whole, second, key)
    )


def _reproducible(whole: ResumeRecord, second: ResumeRecord, key: str) -> bool:
    """Whether it was in the same state in both runs, in the last step before the kill."""
    last = min(len(whole.steps), len(second.steps)) - 1
    states = [run.steps[last].digests("generator").get(key) for run in (whole, second)]
    return last >= 0 and states[0] == states[1]


def _drawn_around(whole: ResumeRecord, name: str, step: int) -> bool:
    """Whether the whole run draws from a generator before or in this step."""
    key = f"generator {name}"
    near = whole.steps[max(0, step - 1) : step + 2]
    return step + 1 >= len(whole.steps) or len({s.digests("generator").get(key) for s in near}) > 1


def _drawn_later(whole: ResumeRecord, name: str, step: int) -> bool:
    """Whether the whole run draws from a generator after this step has begun."""
    key = f"generator {name}"
    return len({record.digests("generator").get(key) for record in whole.steps[step:]}) > 1


def lost_generators_text(pair: StepPair) -> str:
    """The generators that were lost, each with the step that it was in."""
    names = []
    for name in pair.lost:
        key = f"generator {name}"
        state = pair.actual.digests("generator").get(key)
        steps = pair.whole.steps
        when = [step.step for step in steps if step.digests("generator").get(key) == state]
        names.append(f"{name} (as in step {when[0]})" if when else name)
    return ", ".join(names)


def _generators_text(pair: StepPair, what: str) -> str:
    are = "generator" if len(pair.lost) == 1 else "generators"
    verb = "was" if len(pair.lost) == 1 else "were"
    return (
        f"{what}: the {are} {lost_generators_text(pair)} {verb} not restored, or drawn from since"
    )


# How a value differs


def first_differing(
    a: Mapping[str, str], b: Mapping[str, str], ignored: frozenset[str] = frozenset()
) -> str | None:
    """The first key with another value, or that one side has alone."""
    return next((k for k in {**a, **b} if k not in ignored and a.get(k) != b.get(k)), None)


def _value_text(pair: StepPair, key: str, kind: str) -> str:
    """A value that is not the expected one, in words."""
    identity = key.partition(" ")[2]
    state = identity.split(".", 3)[3] if kind == "state" and identity.count(".") >= 3 else ""
    name = _name(pair, identity)
    what = f"the optimizer's state {state} of {name}" if state else f"{kind} {name}"
    return f"{what} {_origin_text(pair, key, kind)}"


def _name(pair: StepPair, identity: str) -> str:
    """The readable name of a parameter, a buffer, or the parameter that a state belongs to."""
    parameter = ".".join(identity.split(".")[:3])
    names = pair.whole.names | {k: v for k, v in pair.resumed.names.items() if v}
    return names.get(identity) or names.get(parameter) or identity


def _origin_text(pair: StepPair, key: str, kind: str) -> str:
    """The origin of a value that is not the expected one."""
    digest = pair.actual.digests(kind).get(key)
    if digest is None:
        return "is missing: not restored"
    if is_zero(pair, key, digest):
        return "is zero: not restored"
    expected = pair.expected.digests(kind)
    if key not in expected:
        return "is new: the uninterrupted run does not have it"
    when = [step.step for step in pair.whole.steps if step.digests(kind).get(key) == digest]
    if when:
        return f"is that of step {when[0]}: not restored"
    elsewhere = next((other for other, value in expected.items() if value == digest), None)
    if elsewhere is not None:
        other = _name(pair, elsewhere.partition(" ")[2])
        return f"is that of {other}: they are in another order"
    return "is another one"


def is_zero(pair: StepPair, key: str, digest: str) -> bool:
    """Whether a digest is that of zeros of the shape and type that the tensor has."""
    identity = key.partition(" ")[2]
    layouts = pair.whole.layouts
    known = layouts.get(identity) or layouts.get(".".join(identity.split(".")[:3]))
    shapes = [*([known] if known else []), ([], "float32"), ([], "int64")]
    return any(digest == zero_digest(shape, dtype) for shape, dtype in shapes)
