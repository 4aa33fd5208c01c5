"""Whether a training that was killed and resumed equals the one that was not, and if not, why."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from xorbench.judge import resume_looks as looks
from xorbench.judge.resume_looks import Meeting
from xorbench.judge.resume_record import (
    ResumeRecord,
    StepRecord,
    others_of,
    renamed_as,
)
from xorbench.judge.verdicts import some
from xorbench.observe.trace import TraceEnd

CUT_SHORT: Final = re.compile(
    r"PytorchStreamReader failed|unexpected EOF|UnpicklingError|EOFError|Ran out of input|"
    r"not a (valid )?zip|SafetensorError|incomplete|truncated"
)
COUNTERS: Final = "the optimizer's steps"
MOST: Final = "most weights"
BATCH: Final = "the batch"
# The final weights that are compared, and the component that each belongs to.
FINALS: Final = (
    ("parameter", "weights"),
    ("buffer", "buffers"),
    ("state", "optimizer state"),
)
SURE: Final = (COUNTERS, MOST)  # what identifies the step surely, if the weights do not


@dataclass(frozen=True, slots=True)
class Resumed:
    """The result of comparing a resumed training with the uninterrupted one.

    Attributes:
        kill_after: how many steps were complete when it was killed.
        step: the step of the uninterrupted training that it goes on with; None where none matches.
        by: by what that step was found.
        compared: how many steps are equal from there on.
        component: what was not restored, in a word or two; empty where everything is equal.
        said: what it looks like.
        at: the step in which it shows, counted as in the uninterrupted training.
        generators: the generators that were not restored, and are drawn from later.
        unneeded: buffers that differed where it began, and nothing came of it.
        anew: whether it starts with the first weights of all.
        beyond: whether it starts with weights that the killed run never had.
        ended: whether the records of both runs have their last line.
    """

    kill_after: int
    step: int | None
    by: str
    compared: int = 0
    component: str = ""
    said: str = ""
    at: int | None = None
    generators: tuple[str, ...] = ()
    unneeded: tuple[str, ...] = ()
    anew: bool = False
    beyond: bool = False
    ended: bool = True


def compare(
    whole: ResumeRecord, second: ResumeRecord, resumed: ResumeRecord, kill_after: int
) -> Resumed:
    """Compare the resumed training with the uninterrupted one, `whole`.

    `second` is the run that was killed; what it has in common with `whole` is reproducible.
    """
    resumed = renamed_as(whole, resumed)
    start = resumed.steps[0]
    prepared = _prepared(whole, start, kill_after)
    step, by = _aligned(whole, start, kill_after) if prepared is None else (prepared, "weights")
    if step is None:
        return _nowhere(whole, start, kill_after)
    lost = looks.unlike(whole, second, whole.steps[step], start)
    later = tuple(name for name in lost if looks.drawn_later(whole, name, step))
    found = Resumed(kill_after, step, by, generators=later, anew=_anew(start, step, by))
    if by != "weights":
        said = _described(whole, start, step)
        return replace(found, component="weights", said=said, at=step)
    at = Meeting(whole, resumed, whole.steps[step], start, prepared=prepared is not None)
    transient = frozenset[str]() if at.prepared else _transient(at)
    followed = _followed(replace(at, ignored=transient), second, found)
    if followed.component and transient:
        return _followed(at, second, found)
    names = tuple(whole.names.get(key.partition(" ")[2], key) for key in sorted(transient))
    return replace(followed, unneeded=names)


# Where it goes on


def _aligned(whole: ResumeRecord, start: StepRecord, kill_after: int) -> tuple[int | None, str]:
    """The step of the whole run at which the resumed one begins, and by what it was found."""
    steps = whole.steps[: kill_after + 1]
    same = [one for one in steps if _same_weights(one, start)]
    counters = start.counters()
    counted = [one for one in steps if counters and one.counters() == counters]
    batched = [one for one in steps if one.batch() and one.batch() == start.batch()]
    if same:
        best = max(same, key=lambda one: _likeness(one, start))
        other = _evidence(best.step, counted, batched)
        return (best.step, "weights") if other is None else other
    if counted:
        return max(counted, key=lambda one: _likeness(one, start)).step, COUNTERS
    moving = _moving(steps)
    nearest = max(steps, key=lambda one: (_share(one, start, moving), *_likeness(one, start)))
    if _share(nearest, start, moving):
        return nearest.step, MOST
    if 0 < len(batched) < len(steps):
        return batched[-1].step, BATCH
    return None, ""


def _prepared(whole: ResumeRecord, start: StepRecord, kill_after: int) -> int | None:
    """The step whose gradients it ends its first one with, though its calls are others.

    It called its model before it loaded the checkpoint, so its step began with other weights; or
    it loaded gradients that were summed up before the checkpoint, so its step has fewer calls.
    """
    gradients = start.digests("gradient")
    for one in reversed(whole.steps[: kill_after + 1]):
        if gradients and one.digests("gradient") == gradients:
            return one.step if start.count("call") != one.count("call") else None
    return None


def _evidence(
    step: int, counted: Sequence[StepRecord], batched: Sequence[StepRecord]
) -> tuple[int, str] | None:
    """Another step that the rest speaks for: the weights then are those of an older one."""
    steps, others = {one.step for one in counted}, {one.step for one in batched}
    if not steps or step in steps | others:
        return None
    both = steps & others or (steps if step == 0 else set())
    return (max(both), COUNTERS) if both else None


def _anew(start: StepRecord, step: int, by: str) -> bool:
    """Whether it begins as a program does that has found nothing to resume from."""
    return step == 0 and (by == "weights" or (by == BATCH and not start.digests("state")))


def _same_weights(one: StepRecord, start: StepRecord) -> bool:
    """Whether the weights that both have are equal; a model may not have been called yet."""
    a, b = looks.common(one.digests("parameter"), start.digests("parameter"))
    if not a:  # in evaluation mode a model is not known as the one that is trained
        weights = set(one.digests("parameter").values())
        return bool(weights) and weights <= set(start.digests("other").values())
    return a == b


def _moving(steps: Sequence[StepRecord]) -> set[str]:
    """The parameters that training changes."""
    values: dict[str, set[str]] = {}
    for one in steps:
        for key, digest in one.digests("parameter").items():
            values.setdefault(key, set()).add(digest)
    return {key for key, digests in values.items() if len(digests) > 1}


def _share(one: StepRecord, start: StepRecord, moving: set[str]) -> int:
    a, b = looks.common(one.digests("parameter"), start.digests("parameter"))
    return sum(a[key] == b[key] for key in a if key in moving)


def _likeness(one: StepRecord, start: StepRecord) -> tuple[bool, bool, bool, bool, int]:
    """How much of the rest is equal too, in the order in which it tells steps apart."""
    a, b = looks.common(one.digests("buffer"), start.digests("buffer"))
    return (
        one.digests("state") == start.digests("state"),
        a == b,
        one.own_hyperparameters() == start.own_hyperparameters(),
        one.batch() == start.batch(),
        one.step,
    )


def _nowhere(whole: ResumeRecord, start: StepRecord, kill_after: int) -> Resumed:
    """It begins with weights that the whole run had not until the kill."""
    later = [one.step for one in whole.steps[kill_after + 1 :] if _same_weights(one, start)]
    ends = whole.end is not None and _same_as_end(whole.end, start)
    if later or ends:
        step = later[0] if later else len(whole.steps)
        when = f"before step {step}" if later else "at its end"
        said = f"it starts with the weights that the uninterrupted run had {when}, after the kill"
        return Resumed(kill_after, step, "weights", said=said, beyond=True)
    said = "the weights that it starts with are none that the uninterrupted run had"
    if whole.steps[kill_after].digests("state") and not start.digests("state"):
        said += ", and the state of the optimizer is empty"
    return Resumed(kill_after, None, "", component="weights", said=said)


def _same_as_end(end: TraceEnd, start: StepRecord) -> bool:
    final = {f"parameter {e.identity}": e.digest or "" for e in end.final if "parameter" in e.kind}
    a, b = looks.common(final, start.digests("parameter"))
    return bool(a) and a == b


def _described(whole: ResumeRecord, start: StepRecord, step: int) -> str:
    """How weights differ from those of the step that it goes on with."""
    a, b = looks.common(whole.steps[step].digests("parameter"), start.digests("parameter"))
    differing = [key for key in a if a[key] != b[key]]
    if not differing:
        return "the weights that it starts with are not known"
    first = differing[0].partition(" ")[2]
    name = whole.names.get(first) or first
    what = f"{len(differing)} of {len(a)} parameters, the first {name}, are"
    if len(differing) == len(a):
        what = "every parameter is"
    averages = {
        d for one in whole.steps for m in others_of(one.line.events, "other") for d in m.values()
    }
    if all(b[key] in averages for key in differing):
        return f"{what} that of another model, such as an average (EMA)"
    when = {
        one.step
        for one in whole.steps
        if one.digests("parameter").get(differing[0]) == b[differing[0]]
    }
    if not when:
        return f"{what} none of the uninterrupted run"
    those = "that" if len(differing) == len(a) else "those"
    mixed = "the checkpoint mixes steps" if abs(min(when) - step) == 1 else "not restored"
    return f"{what} {those} of step {min(when)}: {mixed}"


# What follows


def _transient(at: Meeting) -> frozenset[str]:
    """Buffers that differ where it begins, and are equal in the end."""
    a, b = at.digests("buffer")
    differing = [key for key in {**a, **b} if a.get(key) != b.get(key)]
    ends = [one.end for one in (at.whole, at.resumed)]
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


def _followed(at: Meeting, second: ResumeRecord, found: Resumed) -> Resumed:
    """Compare the steps from the first one on, and the ends."""
    begin = at.expected.step
    for one, expected in zip(at.resumed.steps, at.whole.steps[begin:], strict=False):
        lost = _lost_around(at, second, expected, one)
        missing = looks.missing(replace(at, expected=expected, found=one, lost=lost))
        if missing is not None:
            done, step = expected.step - begin, expected.step
            return replace(found, compared=done, component=missing[0], said=missing[1], at=step)
    compared = min(len(at.resumed.steps), len(at.whole.steps) - begin)
    return _ends(at, replace(found, compared=compared), begin + compared)


def _lost_around(
    at: Meeting, second: ResumeRecord, expected: StepRecord, one: StepRecord
) -> tuple[str, ...]:
    """Generators that differ in this step or the one before, and are drawn from there."""
    pairs = [(expected, one)]
    before = one.step - at.resumed.steps[0].step - 1
    if before >= 0:
        pairs.append((at.whole.steps[expected.step - 1], at.resumed.steps[before]))
    names = dict.fromkeys(name for a, b in pairs for name in looks.unlike(at.whole, second, a, b))
    return tuple(name for name in names if looks.drawn_around(at.whole, name, expected.step))


def _ends(at: Meeting, found: Resumed, step: int) -> Resumed:
    a, b = at.whole.end, at.resumed.end
    if a is None or b is None:
        return replace(found, ended=False)
    steps = (len(at.whole.steps) - at.expected.step, len(at.resumed.steps))
    if steps[0] != steps[1]:
        said = f"it makes {steps[1]} more steps, expected {steps[0]}"
        return replace(found, component="number of steps", said=said, at=step)
    for kind, component in FINALS:
        sides = [
            {e.identity: e.digest or "" for e in end.final if e.kind == f"final {kind}"}
            for end in (a, b)
        ]
        name = looks.first_differing(*looks.common(*sides))
        if name is not None:
            what = "the optimizer's state" if kind == "state" else kind
            said = f"{what} {at.whole.names.get(name) or name} differs at the end"
            return replace(found, component=component, said=said, at=step)
    return _other_ends(a, b, found, step)


def _other_ends(a: TraceEnd, b: TraceEnd, found: Resumed, step: int) -> Resumed:
    expected = others_of(a.final, "final other")
    for model in others_of(b.final, "final other"):
        same = [one for one in expected if one.keys() == model.keys()]
        if same and model not in same:
            name = next(k for k in model if model[k] != same[0][k])
            said = f"{name} of another model, such as an average (EMA), differs at the end"
            return replace(found, component="another model", said=said, at=step)
    return found


def told_generators(names: Sequence[str]) -> str:
    """Generators in words."""
    return f"generator{'' if len(names) == 1 else 's'} {some(list(names))}"
