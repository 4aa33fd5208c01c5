"""The first difference of two records in program order, and its component."""

import msgspec
import pytest

from xorbench.programs.components import component_of
from xorbench.programs.conclusion import CheckRuns, RunPair, conclude
from xorbench.programs.event_names import label
from xorbench.programs.first_difference import compare
from xorbench.records.trace import More, TraceEnd, TraceEvent, TraceStep

Line = TraceStep | TraceEnd


def event(kind: str, identity: str, digest: str | None = "00", **more: object) -> TraceEvent:
    """An event of a record."""
    return TraceEvent(kind, identity, digest, More(**more))  # type: ignore[arg-type]


def step(number: int, **changed: str) -> TraceStep:
    """A step of a training of one parameter; `changed` are the digests that differ."""
    kinds = {
        "generator": "python",
        "parameter": "o0.g0.p0",
        "buffer": "m0.mean",
        "batch": "c0[0]",
        "loss": "l0",
        "hyperparameters": "o0",
    }
    events = [event(kind, identity, changed.get(kind, "00")) for kind, identity in kinds.items()]
    names = {"o0.g0.p0": ("weight", [3], "float32")} if number == 0 else {}
    times = {"at_s": 0.0, "took_s": 0.0, "recorder_s": 0.0}
    return TraceStep(step=number, events=events, names=names, **times)


def end(steps: int, weight: str = "00") -> TraceEnd:
    """The end of a training, with its final parameter."""
    return TraceEnd(
        end=True, steps=steps, complete=True, final=[event("final parameter", "o0.g0.p0", weight)]
    )


def whole(*steps: TraceStep, weight: str = "00") -> list[Line]:
    """A record of these steps and an end."""
    return [*steps, end(len(steps), weight)]


def test_identical_records_have_no_difference_but_a_coverage() -> None:
    """Every compared event is counted."""
    compared = compare(whole(step(0), step(1)), whole(step(0), step(1)))
    assert compared.first is None
    assert compared.coverage.steps == 2
    assert compared.coverage.ended
    assert compared.coverage.parameters == {"o0.g0.p0"}
    assert compared.coverage.counts["loss"] == 2


@pytest.mark.parametrize(
    ("kind", "changed_step", "component"),
    [
        ("parameter", 0, "parameters"),
        ("parameter", 1, "update"),
        ("buffer", 1, "buffers"),
        ("batch", 1, "batch"),
        ("loss", 1, "loss"),
        ("hyperparameters", 1, "hyperparameters"),
    ],
)
def test_a_different_digest_is_the_first_difference(
    kind: str, changed_step: int, component: str
) -> None:
    """It has the step, the kind and the component."""
    steps = [step(number) for number in range(3)]
    step_b = [step(n, **({kind: "ff"} if n == changed_step else {})) for n in range(3)]
    first = compare(whole(*steps), whole(*step_b)).first
    assert first is not None
    assert (first.step, first.event.kind, component_of(first)) == (changed_step, kind, component)


def test_the_first_of_two_differences_in_a_step_is_reported() -> None:
    """The batch comes before the loss that it changes."""
    first = compare(whole(step(0)), whole(step(0, loss="ff", batch="ff"))).first
    assert first is not None
    assert first.event.kind == "batch"


def test_a_parameter_has_its_name() -> None:
    """Names are recorded once, in step 0."""
    first = compare(whole(step(0), step(1)), whole(step(0), step(1, parameter="ff"))).first
    assert first is not None
    assert first.name == "weight"


def test_different_final_parameters_are_a_difference() -> None:
    """The last step, or the program after it, changes them."""
    first = compare(whole(step(0)), whole(step(0), weight="ff")).first
    assert first is not None
    assert first.event.kind == "final parameter"


def test_a_generator_is_not_a_difference_by_itself() -> None:
    """In a correct training an unused generator may have any state."""
    assert compare(whole(step(0)), whole(step(0, generator="ff"))).first is None


def test_a_generator_that_changes_near_a_difference_is_used() -> None:
    """It changes from step 0 to step 1, so step 0 uses it."""
    a = whole(step(0), step(1, generator="01"))
    b = whole(step(0, generator="ff", batch="ff"), step(1, generator="fe"))
    first = compare(a, b).first
    assert first is not None
    assert (first.generators, first.used, first.unused) == (("python",), ("python",), False)


def test_a_generator_that_does_not_change_is_unused() -> None:
    """It cannot explain random numbers of the step."""
    b = whole(step(0, generator="ff", batch="ff"), step(1, generator="ff"))
    first = compare(whole(step(0), step(1)), b).first
    assert first is not None
    assert (first.generators, first.used, first.unused) == (("python",), (), True)


@pytest.mark.parametrize("more", [1, 3])
def test_a_different_number_of_steps_is_a_difference(more: int) -> None:
    """The difference has both numbers, for either longer side."""
    short, long = whole(step(0)), whole(*(step(n) for n in range(1 + more)))
    for a, b, steps in ((short, long, (1, 1 + more)), (long, short, (1 + more, 1))):
        first = compare(a, b).first
        assert first is not None
        assert (first.how, first.steps) == ("steps", steps)


def test_different_operators_of_one_name_have_different_texts() -> None:
    """Their identities follow the name, if the first run has another operator before them."""
    sides = step(0), step(0)
    for line, identity in zip(sides, ("7[1]", "9[1]"), strict=True):
        line.events.append(event("data", identity, name="aten.addmm.out"))
    first = compare(*map(whole, sides)).first
    assert first is not None
    assert label(first) == (
        "the sequence of events: data aten.addmm.out (7[1]) in the first,"
        " data aten.addmm.out (9[1]) in the second"
    )


def test_an_event_on_one_side_only_is_a_different_sequence() -> None:
    """For example a second backward pass in step 0."""
    longer = step(0)
    longer.events.append(event("loss", "l1"))
    first = compare(whole(step(0)), whole(longer)).first
    assert first is not None
    assert (first.how, component_of(first)) == ("events", "events")


@pytest.mark.parametrize(
    ("inputs", "backward", "component"),
    [("w1 7", True, "order"), ("w2", False, "order"), ("w0 7", True, "gradients"),
     ("w0 7", False, "forward")],
)  # fmt: skip
def test_an_operator_with_different_inputs_is_not_nondeterministic(
    inputs: str, backward: bool, component: str
) -> None:
    """With a different weight the order differs, with the same weight the operator."""
    step_a, step_b = step(0), step(0)
    known = {"name": "aten.sgn", "backward": backward}
    step_a.events.append(event("operator", "8", "00", inputs="w0 7", **known))
    step_b.events.append(event("operator", "8", "ff", inputs=inputs, **known))
    first = compare(whole(step_a), whole(step_b)).first
    assert first is not None
    assert component_of(first) == component


def test_tensors_without_a_digest_are_counted_and_not_compared() -> None:
    """Two tensors without a digest do not count as identical."""
    lines = [step(0) for _ in range(2)]
    for line in lines:
        line.events.append(event("batch", "c0[1]", None, not_recorded="on the meta device"))
    compared = compare(whole(lines[0]), whole(lines[1]))
    assert compared.first is None
    assert compared.coverage.counts["batch"] == 1
    assert sum(compared.coverage.not_recorded.values()) == 1


def test_events_that_were_not_recorded_are_counted() -> None:
    """In a very long step both sides drop events, so the answer is inconclusive."""
    lines = [msgspec.structs.replace(step(0), events_left_out=n) for n in (3, 5)]
    compared = compare(whole(lines[0]), whole(lines[1]))
    assert (compared.first, compared.coverage.events_not_recorded) == (None, 5)
    answer = conclude(CheckRuns(runs=2, pairs=[RunPair("", compared, "run 2")]))
    assert (answer.outcome, "5 events" in answer.sentence) == ("inconclusive", True)


def test_a_truncated_record_is_not_a_difference() -> None:
    """The coverage has the number of steps that were not recorded."""
    cut = TraceEnd(end=True, steps=3, complete=True, left_out=2)
    compared = compare(whole(step(0), step(1), step(2)), [step(0), cut])
    assert compared.first is None
    assert compared.coverage.steps == 1
    assert compared.coverage.steps_not_recorded == 2
