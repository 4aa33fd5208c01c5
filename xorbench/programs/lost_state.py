"""Whether a resumed training is exact, and the state that was not restored."""

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
from xorbench.verdicts import counted

# The kinds of final weights that are compared, and the component of each.
FINALS: Final = (
    ("parameter", "weights"),
    ("buffer", "buffers"),
    ("state", "optimizer state"),
)


LostState: TypeAlias = tuple[str, str]  # the component, and the evidence


@dataclass(frozen=True, slots=True)
class Resumed:
    """The result of comparing a resumed training with the uninterrupted one.

    Attributes:
        kill_after: the number of complete steps at the kill.
        step: the step of the uninterrupted training at which it resumed; None if none matches.
        by: the state that identified this step.
        compared: the number of identical steps after the resume.
        component: the state that was not restored; empty if everything is identical.
        text: the evidence.
        differs_at: the step that differs, counted as in the uninterrupted training.
        generators: the generators that were not restored and are used later.
        unneeded: buffers that differed after the resume without effect.
        from_scratch: whether it starts with the initial weights.
        after_kill: whether it starts with weights that the killed run never had.
        ended: whether the records of both runs have their last line.
        further: the other state that was not restored, with the evidence.
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
    further: tuple[LostState, ...] = ()


@dataclass(frozen=True, slots=True)
class StepPair:
    """A step of the resumed run and the matching step of the whole run.

    Attributes:
        whole, resumed: the records of the uninterrupted and of the resumed run.
        expected, actual: the step of the whole run and the step of the resumed run.
        lost: reproducible generators that differ and are used in this step.
        ignored: buffers that are not compared, by kind and identity.
        prepared: whether the first resumed step has different calls but the expected gradients.
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
        """The next step of the resumed run."""
        after = self.actual.step - self.resumed.steps[0].step + 1
        return self.resumed.steps[after] if after < len(self.resumed.steps) else None


def compare(
    whole: ResumeRecord, second: ResumeRecord, resumed: ResumeRecord, kill_after: int
) -> Resumed:
    """Compare the resumed training with the uninterrupted training, `whole`.

    `second` is the killed run; state that it shares with `whole` is reproducible.
    """
    resumed = renamed_as(whole, resumed)
    start = resumed.steps[0]
    late = prepared(whole, start, kill_after)
    step, by = aligned(whole, start, kill_after) if late is None else (late, "weights")
    if step is None:
        return _nowhere(whole, start, kill_after)
    lost = _differing_generators(whole, second, whole.steps[step], start)
    later = tuple(name for name in lost if _used_later(whole, name, step))
    scratch = from_scratch(start, step, by)
    result = Resumed(kill_after, step, by, generators=later, from_scratch=scratch)
    if by != "weights":
        text = _weights_text(whole, start, step)
        pair = StepPair(whole, resumed, whole.steps[step], start)
        further = _further(pair, "weights", later)
        return replace(result, component="weights", text=text, differs_at=step, further=further)
    pair = StepPair(whole, resumed, whole.steps[step], start, prepared=late is not None)
    transient = frozenset[str]() if pair.prepared else _transient(pair)
    followed = _followed(replace(pair, ignored=transient), second, result)
    if followed.component and transient:
        return _followed(pair, second, result)
    names = tuple(whole.names.get(key.partition(" ")[2], key) for key in sorted(transient))
    return replace(followed, unneeded=names)


def _nowhere(whole: ResumeRecord, start: StepRecord, kill_after: int) -> Resumed:
    """The result if the initial weights match no step of the whole run before the kill."""
    later = [s.step for s in whole.steps[kill_after + 1 :] if same_weights(s, start)]
    ends = whole.end is not None and _same_as_end(whole.end, start)
    if later or ends:
        step = later[0] if later else len(whole.steps)
        when = f"before step {step}" if later else "at its end"
        text = f"its initial weights are those of the uninterrupted run {when}, after the kill"
        return Resumed(kill_after, step, "weights", text=text, after_kill=True)
    text = "its initial weights match no step of the uninterrupted run"
    if whole.steps[kill_after].digests("state") and not start.digests("state"):
        text += ", and the optimizer state is empty"
    return Resumed(kill_after, None, "", component="weights", text=text)


def _same_as_end(end: TraceEnd, start: StepRecord) -> bool:
    final = {f"parameter {e.identity}": e.digest or "" for e in end.final if "parameter" in e.kind}
    a, b = common(final, start.digests("parameter"))
    return bool(a) and a == b


def _weights_text(whole: ResumeRecord, start: StepRecord, step: int) -> str:
    """How the initial weights differ from the weights of the matching step."""
    a, b = common(whole.steps[step].digests("parameter"), start.digests("parameter"))
    differing = [key for key in a if a[key] != b[key]]
    if not differing:
        return "its initial weights are unknown"
    first = differing[0].partition(" ")[2]
    name = whole.names.get(first) or first
    parameters = f"{len(differing)} of {len(a)} parameters (first: {name})"
    if len(differing) == len(a):
        parameters = "all parameters"
    averages = {
        digest
        for record in whole.steps
        for model in others_of(record.line.events, "other")
        for digest in model.values()
    }
    if all(b[key] in averages for key in differing):
        return f"{parameters} come from another model, such as an average (EMA)"
    when = {
        record.step
        for record in whole.steps
        if record.digests("parameter").get(differing[0]) == b[differing[0]]
    }
    if not when:
        return f"{parameters} match no step of the uninterrupted run"
    reason = "the checkpoint mixes steps" if abs(min(when) - step) == 1 else "not restored"
    return f"{parameters} come from step {min(when)}: {reason}"


# The steps after the resume


def _transient(pair: StepPair) -> frozenset[str]:
    """Buffers that differ after the resume and are identical at the end."""
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
    """Compare all resumed steps, and the ends."""
    begin = pair.expected.step
    for actual, expected in zip(pair.resumed.steps, pair.whole.steps[begin:], strict=False):
        lost = _lost_around(pair, second, expected, actual)
        loss = first_loss(replace(pair, expected=expected, actual=actual, lost=lost))
        if loss is not None:
            done, step = expected.step - begin, expected.step
            component, text = loss
            at_step = replace(pair, expected=expected, actual=actual, lost=lost)
            return replace(
                result,
                compared=done,
                component=component,
                text=text,
                differs_at=step,
                further=_further(at_step, component, result.generators),
            )
    compared = min(len(pair.resumed.steps), len(pair.whole.steps) - begin)
    return _ends(pair, replace(result, compared=compared), begin + compared)


def _lost_around(
    pair: StepPair, second: ResumeRecord, expected: StepRecord, actual: StepRecord
) -> tuple[str, ...]:
    """Generators that differ and are used in this step or the previous one."""
    pairs = [(expected, actual)]
    before = actual.step - pair.resumed.steps[0].step - 1
    if before >= 0:
        pairs.append((pair.whole.steps[expected.step - 1], pair.resumed.steps[before]))
    names = dict.fromkeys(
        name for a, b in pairs for name in _differing_generators(pair.whole, second, a, b)
    )
    return tuple(name for name in names if _used_around(pair.whole, name, expected.step))


def _ends(pair: StepPair, result: Resumed, step: int) -> Resumed:
    a, b = pair.whole.end, pair.resumed.end
    if a is None or b is None:
        return replace(result, ended=False)
    steps = (len(pair.whole.steps) - pair.expected.step, len(pair.resumed.steps))
    if steps[0] != steps[1]:
        text = f"it makes {counted(steps[1], 'step')} after the resume, expected {steps[0]:,}"
        return replace(result, component="number of steps", text=text, differs_at=step)
    for kind, component in FINALS:
        sides = [
            {e.identity: e.digest or "" for e in end.final if e.kind == f"final {kind}"}
            for end in (a, b)
        ]
        name = first_differing(*common(*sides))
        if name is not None:
            noun = "optimizer state" if kind == "state" else kind
            text = f"{noun} {pair.whole.names.get(name) or name} differs at the end"
            return replace(result, component=component, text=text, differs_at=step)
    return _other_ends(a, b, result, step)


def _other_ends(a: TraceEnd, b: TraceEnd, result: Resumed, step: int) -> Resumed:
    expected = others_of(a.final, "final other")
    for model in others_of(b.final, "final other"):
        matching = [candidate for candidate in expected if candidate.keys() == model.keys()]
        if matching and model not in matching:
            name = next(k for k in model if model[k] != matching[0][k])
            text = f"{name} of another model, such as an average (EMA), differs at the end"
            return replace(result, component="another model", text=text, differs_at=step)
    return result


# The state of a step


def first_loss(pair: StepPair) -> LostState | None:
    """The first state that was not restored, causes before consequences."""
    late = pair.prepared and pair.actual is pair.resumed.steps[0]
    lost = (comparison(pair) for comparison in (AFTER_BACKWARD if late else COMPARISONS))
    return next((state for state in lost if state is not None), None)


def _further(pair: StepPair, component: str, generators: Sequence[str]) -> tuple[LostState, ...]:
    """The other state that was not restored; consequences of a difference are excluded.

    `generators` differ when the training resumes, and are used later.
    """
    states = [comparison(pair) for comparison in RESTORABLE]
    further = [state for state in states if state is not None and state[0] != component]
    if generators and component not in ("generators", "data order"):
        noun = "generator" if len(generators) == 1 else "generators"
        further.append(("generators", f"{noun} {', '.join(generators)}"))
    return tuple(further)


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
        return "optimizer state", f"the optimizer state ({', '.join(kinds)}) is empty"
    name = first_differing(a, b)
    return None if name is None else ("optimizer state", _value_text(pair, name, "state"))


def _other_model(pair: StepPair) -> LostState | None:
    """Compare models that are called but not trained, identified by their parameter names."""
    expected = others_of(pair.expected.line.events, "other")
    for model in others_of(pair.actual.line.events, "other"):
        matching = [candidate for candidate in expected if candidate.keys() == model.keys()]
        if not matching or model in matching:
            continue
        nearest = max(matching, key=lambda candidate: len(candidate.items() & model.items()))
        name = next(k for k in model if model[k] != nearest[k])
        tensor = f"{name} of another model that the program calls, such as an average (EMA),"
        weights = set(pair.actual.digests("parameter").values())
        origin = "comes from the trained model" if model[name] in weights else "differs"
        return "another model", f"{tensor} {origin}"
    return None


def _hyperparameters(pair: StepPair) -> LostState | None:
    expected, actual = pair.expected.own_hyperparameters(), pair.actual.own_hyperparameters()
    values = changed(expected, actual, "{actual}, expected {expected}")
    if not values:
        return None
    when = [record.step for record in pair.whole.steps if record.own_hyperparameters() == actual]
    nearest = min(when, key=lambda step: abs(step - pair.expected.step), default=None)
    place = "" if nearest is None else f", as in step {nearest}"
    why = "the scheduler was not restored, or its step count is wrong"
    if not values.startswith("learning rate"):
        why = "the optimizer's parameter groups were not restored"
    return "hyperparameters", f"{values}{place}: {why}"


def _scale(pair: StepPair) -> LostState | None:
    """Whether the loss is a power of two times the expected loss, from the same batch."""
    if pair.expected.batches()[:1] != pair.actual.batches()[:1]:
        return None
    for a, b in zip(pair.expected.losses(), pair.actual.losses(), strict=False):
        if a.digest == b.digest:
            continue
        x, y = a.more.value, b.more.value
        if x and y and math.isfinite(x) and math.isfinite(y) and _power_of_two(y / x):
            text = f"the loss is {y / x:g} times the expected value: the loss scale differs"
            return "loss scale", text
        return None
    return None


def _power_of_two(ratio: float) -> bool:
    return ratio > 0 and ratio != 1 and math.frexp(ratio)[0] == 0.5


def _mode(pair: StepPair) -> LostState | None:
    """Whether only one side calls the model in training mode."""
    expected, actual = pair.expected.count("call"), pair.actual.count("call")
    if bool(expected) == bool(actual):
        return None
    mode = "evaluation" if expected else "training"
    return (
        "training mode",
        f"the model is called in {mode} mode, unlike in the uninterrupted run",
    )


def _within_step(pair: StepPair) -> LostState | None:
    """Whether the step begins within a step of the whole run: a checkpoint in an accumulation."""
    expected, actual = pair.expected.batches(), pair.actual.batches()
    counts = [(step.count("loss"), step.count("call")) for step in (pair.expected, pair.actual)]
    begins = expected.index(actual[0]) if actual and actual[0] in expected else 0
    if counts[0] == counts[1] and not begins:
        return None
    if begins:
        text = f"the step begins with the batch of call {begins} of the expected step"
    else:
        text = f"the step has {_passes(*counts[1])}, expected {_passes(*counts[0])}"
    if begins and counts[0] != counts[1]:
        text += f" and has {_passes(*counts[1])}, expected {_passes(*counts[0])}"
    return "accumulation", f"{text}: the checkpoint was saved within a step"


def _passes(losses: int, calls: int) -> str:
    passes = counted(losses, "backward pass")
    return passes if losses == calls else f"{passes} and {counted(calls, 'call')}"


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
        return "data order", f"the batch is from step {nearest}: {why}{also}"
    if pair.lost:
        later = pair.next_actual()
        late = later is not None and later.batch() == expected.batch()
        why = ": it was restored after a batch was drawn" if late else ""
        return "generators", f"{_generators_text(pair, 'the batch differs')}{why}"
    return (
        "data order",
        "the batch matches none of the uninterrupted run although the global generators match: it"
        " comes from another generator (numpy.random.Generator, torch.Generator), or was drawn"
        " before they were restored",
    )


def _moved(apart: int, *, begins: bool) -> str:
    restarted = "the data order restarted, or the sampler's epoch was not restored"
    if apart == 1:
        return "one batch was skipped"
    if apart > 0:
        return f"{apart} batches were skipped, or the order belongs to a different epoch"
    return "one batch was repeated" if apart == -1 and not begins else restarted


def _forward(pair: StepPair) -> LostState | None:
    """Compare losses and the inputs of later calls; weights, state and batch are identical."""
    kinds = ("call", "input", "loss")
    steps = (pair.expected, pair.actual)
    sides = [[event for event in step.line.events if event.kind in kinds] for step in steps]
    for a, b in zip(*sides, strict=False):
        if (a.kind, a.identity, a.digest) == (b.kind, b.identity, b.digest):
            continue
        event = "the loss" if a.kind == "loss" else f"{a.kind} {a.identity}"
        if pair.lost:
            return "generators", _generators_text(pair, f"{event} differs")
        return "forward", f"{event} differs although weights, state and batch are identical"
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
        return "gradients", f"{has}: the set of trained parameters was not restored"
    text = f"the gradient of {parameter} differs although the loss is identical"
    return ("generators", _generators_text(pair, text)) if pair.lost else ("gradients", text)


COMPARISONS: Final[Sequence[Callable[[StepPair], LostState | None]]] = (
    _weights,
    _scale,
    _mode,
    _within_step,
    _buffers,
    _state,
    _other_model,
    _hyperparameters,
    _batch,
    _forward,
    _gradients,
)

# State that a checkpoint holds. The comparisons do not depend on the calls of the step.
RESTORABLE: Final = (_scale, _buffers, _state, _other_model, _hyperparameters)

# The comparisons that remain valid if the weights were loaded after the step had begun.
AFTER_BACKWARD: Final = (_state, _other_model, _hyperparameters, _gradients)


# Generators


def _differing_generators(
    whole: ResumeRecord, second: ResumeRecord, expected: StepRecord, actual: StepRecord
) -> tuple[str, ...]:
    """Reproducible generators that differ when a step begins.

    In a correct program, an unused generator may have any state.
    """
    a, b = expected.digests("generator"), actual.digests("generator")
    return tuple(
        key.partition(" ")[2]
        for key in a
        if key in b and a[key] != b[key] and _reproducible(whole, second, key)
    )


def _reproducible(whole: ResumeRecord, second: ResumeRecord, key: str) -> bool:
    """Whether it had the same state in both runs in the last step before the kill."""
    last = min(len(whole.steps), len(second.steps)) - 1
    states = [run.steps[last].digests("generator").get(key) for run in (whole, second)]
    return last >= 0 and states[0] == states[1]


def _used_around(whole: ResumeRecord, name: str, step: int) -> bool:
    """Whether the whole run uses a generator in this step or the previous one."""
    key = f"generator {name}"
    near = whole.steps[max(0, step - 1) : step + 2]
    return step + 1 >= len(whole.steps) or len({s.digests("generator").get(key) for s in near}) > 1


def _used_later(whole: ResumeRecord, name: str, step: int) -> bool:
    """Whether the whole run uses a generator after this step has begun."""
    key = f"generator {name}"
    return len({record.digests("generator").get(key) for record in whole.steps[step:]}) > 1


def lost_generators_text(pair: StepPair) -> str:
    """The generators that were not restored, each with the step of its state."""
    names = []
    for name in pair.lost:
        key = f"generator {name}"
        state = pair.actual.digests("generator").get(key)
        steps = pair.whole.steps
        when = [step.step for step in steps if step.digests("generator").get(key) == state]
        names.append(f"{name} (as in step {when[0]})" if when else name)
    return ", ".join(names)


def _generators_text(pair: StepPair, effect: str) -> str:
    noun, verb = ("generator", "was") if len(pair.lost) == 1 else ("generators", "were")
    return (
        f"{effect}: the {noun} {lost_generators_text(pair)} {verb} not restored, or"
        f" {verb} used after it"
    )


# Values that differ


def first_differing(
    a: Mapping[str, str], b: Mapping[str, str], ignored: frozenset[str] = frozenset()
) -> str | None:
    """The first key whose values differ, or that exists on one side only."""
    return next((k for k in {**a, **b} if k not in ignored and a.get(k) != b.get(k)), None)


def _value_text(pair: StepPair, key: str, kind: str) -> str:
    """A value that differs from the expected value, with its origin."""
    identity = key.partition(" ")[2]
    state = identity.split(".", 3)[3] if kind == "state" and identity.count(".") >= 3 else ""
    name = _name(pair, identity)
    value = f"optimizer state {state} of {name}" if state else f"{kind} {name}"
    return f"{value} {_origin_text(pair, key, kind)}"


def _name(pair: StepPair, identity: str) -> str:
    """The readable name of a parameter, a buffer, or the parameter of a state."""
    parameter = ".".join(identity.split(".")[:3])
    names = pair.whole.names | {k: v for k, v in pair.resumed.names.items() if v}
    return names.get(identity) or names.get(parameter) or identity


def _origin_text(pair: StepPair, key: str, kind: str) -> str:
    """The origin of a value that differs from the expected value."""
    digest = pair.actual.digests(kind).get(key)
    if digest is None:
        return "is missing: not restored"
    if is_zero(pair, key, digest):
        return "is zero: not restored"
    expected = pair.expected.digests(kind)
    if key not in expected:
        return "does not exist in the uninterrupted run"
    when = [step.step for step in pair.whole.steps if step.digests(kind).get(key) == digest]
    if when:
        return f"is from step {when[0]}: not restored"
    source = next((source for source, value in expected.items() if value == digest), None)
    if source is not None:
        name = _name(pair, source.partition(" ")[2])
        return f"has the value of {name}: the order differs"
    return "differs"


def is_zero(pair: StepPair, key: str, digest: str) -> bool:
    """Whether a digest is the digest of zeros with the shape and type of the tensor."""
    identity = key.partition(" ")[2]
    layouts = pair.whole.layouts
    known = layouts.get(identity) or layouts.get(".".join(identity.split(".")[:3]))
    shapes = [*([known] if known else []), ([], "float32"), ([], "int64")]
    return any(digest == zero_digest(shape, dtype) for shape, dtype in shapes)
