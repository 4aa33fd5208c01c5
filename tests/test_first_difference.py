"""Where two records first differ, in program order, and what that is put down to."""

import msgspec
import pytest

from xorbench.programs.components import component_of
from xorbench.programs.conclusion import CheckRuns, RunPair, conclude
from xorbench.programs.first_difference import compare
from xorbench.records.trace import More, TraceEnd, TraceEvent, TraceStep

Line = TraceStep | TraceEnd


def event(kind: str, identity: str, digest: str | None = "00", **more: object) -> TraceEvent:
    """An event of a record."""
    return TraceEvent(kind, identity, digest, More(**more))  # type: ignore[arg-type]


def step(number: int, **changed: str) -> TraceStep:
    """A step of a training of one parameter; `changed` are digests that are others."""
    kinds = {
        "generator": "python",
        "parameter": "o0.g0.p0",
        "buffer": "m0.mean",
        "batch": "c0[0]",
        "loss": "l0",
        "hyperparameters": "o0",
    }
    events = [event(kind, who, changed.get(kind, "00")) for kind, who in kinds.items()]
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


def test_equal_records_have_no_difference_and_a_coverage() -> None:
    """Everything that was compared is counted."""
    compared = compare(whole(step(0), step(1)), whole(step(0), step(1)))
    assert compared.first is None
    assert compared.coverage.steps == 2
    assert compared.coverage.ended
    assert compared.coverage.parameters == {"o0.g0.p0"}
    assert compared.coverage.counts["loss"] == 2


@pytest.mark.parametrize(
    ("kind", "at", "component"),
    [
        ("parameter", 0, "parameters"),
        ("parameter", 1, "update"),
        ("buffer", 1, "buffers"),
        ("batch", 1, "batch"),
        ("loss", 1, "loss"),
        ("hyperparameters", 1, "hyperparameters"),
    ],
)
def test_one_other_digest_is_the_first_difference(kind: str, at: int, component: str) -> None:
    """Its step and kind are told, and the component that it is put down to."""
    steps = [step(number) for number in range(3)]
    other = [step(n, **({kind: "ff"} if n == at else {})) for n in range(3)]
    first = compare(whole(*steps), whole(*other)).first
    assert first is not None
    assert (first.step, first.event.kind, component_of(first)) == (at, kind, component)


def test_of_two_in_one_step_the_first_in_program_order_is_told() -> None:
    """The batch comes before the loss that it changes."""
    first = compare(whole(step(0)), whole(step(0, loss="ff", batch="ff"))).first
    assert first is not None
    assert first.event.kind == "batch"


def test_a_parameter_is_told_by_its_name() -> None:
    """Names are for reading; they are recorded once, in step 0."""
    first = compare(whole(step(0), step(1)), whole(step(0), step(1, parameter="ff"))).first
    assert first is not None
    assert first.name == "weight"


def test_other_final_parameters_are_a_difference() -> None:
    """What the last step, or the program after it, does to them."""
    first = compare(whole(step(0)), whole(step(0), weight="ff")).first
    assert first is not None
    assert first.event.kind == "final parameter"


def test_a_generator_alone_is_no_difference() -> None:
    """A sound training may leave one that it does not use in any state."""
    assert compare(whole(step(0)), whole(step(0, generator="ff"))).first is None


def test_a_generator_is_named_beside_a_difference_and_drawn_from_where_it_moves() -> None:
    """It moves from step 0 to step 1, so step 0 or what leads to it draws from it."""
    a = whole(step(0), step(1, generator="01"))
    b = whole(step(0, generator="ff", batch="ff"), step(1, generator="fe"))
    first = compare(a, b).first
    assert first is not None
    assert (first.generators, first.used, first.unused) == (("python",), ("python",), False)


def test_a_generator_that_does_not_move_is_not_drawn_from() -> None:
    """So it explains nothing that is drawn within the step."""
    b = whole(step(0, generator="ff", batch="ff"), step(1, generator="ff"))
    first = compare(whole(step(0), step(1)), b).first
    assert first is not None
    assert (first.generators, first.used, first.unused) == (("python",), (), True)


@pytest.mark.parametrize("more", [1, 3])
def test_another_number_of_steps_is_a_difference(more: int) -> None:
    """Both numbers are told, whichever side has more."""
    short, long = whole(step(0)), whole(*(step(n) for n in range(1 + more)))
    for a, b, steps in ((short, long, (1, 1 + more)), (long, short, (1 + more, 1))):
        first = compare(a, b).first
        assert first is not None
        assert (first.how, first.steps) == ("steps", steps)


def test_an_event_that_one_side_lacks_is_another_program() -> None:
    """A second backward pass of step 0, say."""
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
def test_an_operator_of_other_inputs_is_not_told_to_be_nondeterministic(
    inputs: str, backward: bool, component: str
) -> None:
    """With another weight it is the order that differs; with the same, the operator."""
    one, other = step(0), step(0)
    known = {"name": "aten.sgn", "backward": backward}
    one.events.append(event("operator", "8", "00", inputs="w0 7", **known))
    other.events.append(event("operator", "8", "ff", inputs=inputs, **known))
    first = compare(whole(one), whole(other)).first
    assert first is not None
    assert component_of(first) == component


def test_what_was_not_recorded_is_counted_and_not_compared() -> None:
    """Two tensors without a digest are not said to be equal."""
    lines = [step(0) for _ in range(2)]
    for line in lines:
        line.events.append(event("batch", "c0[1]", None, not_recorded="on the meta device"))
    compared = compare(whole(lines[0]), whole(lines[1]))
    assert compared.first is None
    assert compared.coverage.counts["batch"] == 1
    assert sum(compared.coverage.not_recorded.values()) == 1


def test_events_that_were_left_out_are_counted() -> None:
    """Of a step with very many both sides drop the rest, which nobody has compared."""
    lines = [msgspec.structs.replace(step(0), events_left_out=n) for n in (3, 5)]
    compared = compare(whole(lines[0]), whole(lines[1]))
    assert (compared.first, compared.coverage.events_not_recorded) == (None, 5)
    answer = conclude(CheckRuns(runs=2, pairs=[RunPair("", compared, "run 2")]))
    assert (answer.outcome, "5 events" in answer.sentence) == ("inconclusive", True)


def test_a_record_cut_short_is_no_difference_and_no_end() -> None:
    """A full record leaves steps out; the coverage says so."""
    cut = TraceEnd(end=True, steps=3, complete=True, left_out=2)
    compared = compare(whole(step(0), step(1), step(2)), [step(0), cut])
    assert compared.first is None
    assert compared.coverage.steps == 1
    assert compared.coverage.steps_not_recorded == 2
