"""A hint follows from observations, and never contradicts them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from xorbench.programs.components import COMPONENTS, DETERMINISTIC
from xorbench.programs.conclusion import (
    CheckRuns,
    DetailedPair,
    RunPair,
    conclude,
    element_details,
)
from xorbench.programs.elements import Difference, TensorKind, between
from xorbench.programs.first_difference import Compared, Coverage, FirstDifference
from xorbench.programs.hints import RULES, Observations, hint_of
from xorbench.records.trace import More, TracedSource, TraceEvent

UNUSED = {"generators": ("python", "numpy"), "unused": True}


def first(kind: str = "batch", step: int = 0, *, of: dict[str, Any] | None = None, **more: object):
    """A first difference; `more` are the details of its event."""
    event = TraceEvent(kind, "c0", "00", More(**more))  # type: ignore[arg-type]
    return FirstDifference(step, "digest", event, event, **(of or {}))


def source(kind: str, name: str, where: str, **more: Any) -> TracedSource:
    """A note of the recorder."""
    return TracedSource(kind=kind, name=name, where=where, **more)


def seeded(generator: str, where: str, digest: str = "1", step: int = 0) -> TracedSource:
    """A seed that the program set."""
    return source("seeded", generator, where, digest=digest, step=step)


def observed(
    component: str,
    first_: FirstDifference,
    *sources: TracedSource,
    other: Sequence[TracedSource] | None = None,
    **more: Any,
) -> str:
    """The hint for these observations; the second run has the `other` notes, or the same."""
    sides = (sources, sources if other is None else other)
    return hint_of(Observations(component, first_, first_, sources=sides, **more))


def tensor(dtype: str, values: object) -> tuple[TraceEvent, bytes]:
    """A recorded tensor with its bytes."""
    array = np.array(values, dtype)
    more = More(shape=list(array.shape), dtype=dtype)
    return TraceEvent("batch", "c0", "00", more), array.tobytes()


def difference(dtype: str, a: object, b: object) -> Difference:
    """The difference of two tensors of a type."""
    (event_a, bytes_a), (event_b, bytes_b) = tensor(dtype, a), tensor(dtype, b)
    found = between(event_a, event_b, bytes_a, bytes_b)
    assert found is not None
    return found


@pytest.mark.parametrize("component", ["data", "input", "forward", "loss"])
def test_no_hint_seeds_a_generator_that_the_step_did_not_use(component: str) -> None:
    """The report lists it as not used in this step."""
    for notes in ([], [seeded("torch cpu", "a.py:1")]):
        hint = observed(component, first(of=UNUSED, name="aten.sum"), *notes)
        assert "random.seed" not in hint


@pytest.mark.parametrize("component", ["batch", "data", "forward"])
def test_deterministic_algorithms_are_not_advised_where_a_generator_was_used(
    component: str,
) -> None:
    """The operator drew numbers, from a generator that differs."""
    of = {"generators": ("torch cpu",), "used": ("torch cpu",)}
    hint = observed(component, first(of=of, name="aten.bernoulli_", where="a.py:7", random=True))
    assert "use_deterministic_algorithms" not in hint
    assert "torch.manual_seed(0)" in hint
    assert "a.py:7" in hint


def test_deterministic_algorithms_are_not_advised_where_an_input_of_the_operator_differs() -> None:
    """The order of the program is the cause, at the line of a set."""
    hint = observed("order", first("operator", name="aten.add"), source("set", "names", "a.py:4"))
    assert "use_deterministic_algorithms" not in hint
    assert "names at a.py:4" in hint


def test_deterministic_algorithms_are_advised_with_the_line_of_the_operator() -> None:
    """Nothing else explains different results for identical inputs."""
    hint = observed("forward", first("operator", name="aten.index_put_", where="a.py:9"))
    assert DETERMINISTIC in hint
    assert "a.py:9" in hint


def test_deterministic_algorithms_are_not_advised_where_results_are_far_apart() -> None:
    """A different order of a sum changes the last bits only."""
    element = difference("float32", [1.0, 2.0], [7.0, 2.0])
    hint = observed("forward", first("operator", name="aten.sum", where="a.py:9"), element=element)
    assert "use_deterministic_algorithms" not in hint
    assert "more than rounding" in hint


def test_a_generator_that_is_seeded_alike_was_used_a_different_number_of_times() -> None:
    """The script seeds it, so a seed is no advice."""
    of = {"generators": ("torch cpu",), "used": ("torch cpu",)}
    notes = (
        seeded("torch cpu", "a.py:3"),
        source("draw", "torch.rand()", "a.py:8", generator="torch cpu", within="condition"),
    )
    hint = observed("batch", first(of=of), *notes)
    assert "torch.manual_seed(0)" not in hint
    assert "seeded identically at a.py:3" in hint
    assert "a.py:8" in hint


def test_a_seed_that_differs_is_named_with_its_line_and_its_source() -> None:
    """The last seed before the difference counts."""
    of = {"generators": ("torch cpu",), "used": ("torch cpu",)}
    early, late = seeded("torch cpu", "a.py:3"), seeded("torch cpu", "a.py:9", "2", step=4)
    clock = source("time", "time.time()", "a.py:8", within="seed")
    hint = observed(
        "forward",
        first(step=5, of=of, name="aten.bernoulli_", random=True),
        *(early, late, clock),
        other=(early, seeded("torch cpu", "a.py:9", "3", step=4)),
    )
    assert "a.py:9" in hint
    assert "time.time() at a.py:8" in hint


def test_a_seed_may_come_from_a_value_that_is_made_elsewhere() -> None:
    """No source is used as a seed where it is made, such as the name of a run."""
    of = {"generators": ("torch cpu",), "used": ("torch cpu",)}
    early, late = seeded("torch cpu", "a.py:3"), seeded("torch cpu", "a.py:9", "2", step=4)
    clock = source("time", "time.time()", "a.py:8")
    hint = observed(
        "forward",
        first(step=5, of=of, name="aten.bernoulli_", random=True),
        *(early, late, clock),
        other=(early, seeded("torch cpu", "a.py:9", "3", step=4)),
    )
    assert "a.py:9" in hint
    assert "time.time() at a.py:8" in hint


@pytest.mark.parametrize("component", ["parameters", "batch", "data"])
def test_different_shapes_are_not_explained_by_a_generator(component: str) -> None:
    """The architecture, the curriculum or the vocabulary differs."""
    element = Difference(TensorKind("float32", [4, 3]), TensorKind("float32", [4, 5]))
    of = {"generators": ("python",), "used": ("python",)}
    notes = (source("hash", "hash()", "a.py:6"),)
    hint = observed(component, first(of=of, where="a.py:2"), *notes, element=element)
    assert "random.seed" not in hint
    assert "different shape of the tensor made at a.py:2: hash() at a.py:6" in hint


def test_integers_have_no_distance_in_ulps() -> None:
    """A token is a number, not a rounded value."""
    details = dict(element_details(difference("int64", [3, 4], [3, 9])))
    assert "ulps" not in details["first element"]
    assert (
        "ulps" in dict(element_details(difference("float32", [1.0], [1.0000001])))["first element"]
    )


@pytest.mark.parametrize("garbage", [1e36, float("nan"), 1e-38])
def test_values_of_uninitialized_memory_are_recognized(garbage: float) -> None:
    """Huge, tiny and undefined values of a new tensor."""
    element = difference("float32", [0.5, garbage], [0.5, 0.0])
    hint = observed("parameters", first("parameter", where="a.py:5"), element=element)
    assert "uninitialized memory" in hint
    assert "a.py:5" in hint


def test_memory_that_an_operator_reads_before_it_is_written_is_named() -> None:
    """The recorder saw the allocation."""
    event = first("operator", name="aten.add", uninitialized="a.py:12")
    assert "allocated at a.py:12" in observed("forward", event)


def test_a_parameter_that_is_never_written_is_named() -> None:
    """PyTorch is seeded before, and the line calls `torch.empty`."""
    notes = (seeded("torch cpu", "a.py:1"), source("empty", "torch.empty()", "a.py:5"))
    event = first("parameter", of=UNUSED, where="a.py:5")
    assert "initialize the tensor that is made at a.py:5" in observed("parameters", event, *notes)


def test_a_model_that_is_made_before_the_seed_is_named() -> None:
    """Both lines are in the hint."""
    event = first("parameter", where="a.py:4", unseeded=True)
    hint = observed("parameters", event, seeded("torch cpu", "a.py:9"))
    assert "a.py:4" in hint
    assert "a.py:9" in hint


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("unseeded", "random.Random()"),
        ("set", "the order of names"),
        ("listing", "os.listdir()"),
        ("completion", "imap_unordered()"),
        ("file name", "tempfile.mkdtemp()"),
        ("process id", "os.getpid()"),
        ("empty", "torch.empty()"),
    ],
)
def test_a_source_of_different_data_is_named(kind: str, name: str) -> None:
    """No global generator differs."""
    assert f"{name} at a.py:6" in observed("batch", first(), source(kind, name, "a.py:6"))


@pytest.mark.parametrize("kind", ["time", "draw"])
def test_a_condition_is_named_if_the_number_of_steps_differs(kind: str) -> None:
    """A measured time elsewhere is not."""
    notes = (
        source("time", "time.time()", "a.py:2"),
        source(kind, "call()", "a.py:7", within="condition"),
    )
    hint = observed("events", first(), *notes)
    assert "a.py:7" in hint
    assert "a.py:2" not in hint


def test_every_component_of_a_rule_exists() -> None:
    """A rule cannot name a component by mistake."""
    assert {name for names, _ in RULES for name in names} <= COMPONENTS.keys()


def test_a_conclusion_uses_the_notes_of_the_detailed_pair() -> None:
    """Without one, it falls back to the global generators."""
    pair = RunPair("process", Compared(Coverage(), first()), "run 2")
    observed_runs = CheckRuns(runs=2, pairs=[pair])
    assert "no global generator explains this" in conclude(observed_runs).hint
    notes = [source("unseeded", "random.Random()", "a.py:3")]
    observed_runs.detailed_pairs = [DetailedPair(first(), None, (notes, notes))]
    assert "random.Random() at a.py:3" in conclude(observed_runs).hint
