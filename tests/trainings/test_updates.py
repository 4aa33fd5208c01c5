"""Trainings that update their weights without `torch.optim`: their steps, and where they differ."""

from pathlib import Path

import pytest
from conftest import once
from test_recorder import Recorded, identities, of_kind, run
from update_programs import KINDS, LATE, STEPS, variants

from xorbench.programs.first_difference import compare

PROGRAMS = Path(__file__).parent / "update_programs.py"
# The last update of tensors that are replaced in each step is seen by no later backward pass.
REBOUND = {"rebound", "transformed"}
PASSES = {"accumulated": 3}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Every training at the default level."""
    names = [name for name, _ in variants()]
    return Recorded(once(tmp_path_factory, "updates", lambda folder: run(folder, names, PROGRAMS)))


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Two threads that train at the same time, with a record for each."""

    def record(folder: Path) -> None:
        run(folder, ["parallel", "parallel_late"], PROGRAMS, threads=True)

    return Recorded(once(tmp_path_factory, "threads", record))


@pytest.mark.parametrize("name", KINDS)
def test_a_step_ends_where_the_weights_change(recorded: Recorded, name: str) -> None:
    """Four updates are four steps, each with its losses; the last may be seen by none."""
    steps = recorded.steps(name)
    assert len(steps) == STEPS - (name in REBOUND)
    losses = [len(of_kind(step, "loss")) for step in steps]
    if name not in REBOUND:
        assert losses == [PASSES.get(name, 1)] * STEPS
    assert recorded.end(name).complete == (name not in REBOUND)


@pytest.mark.parametrize("name", KINDS)
def test_each_weight_is_recorded_once_in_each_step(recorded: Recorded, name: str) -> None:
    """Its identity is the same in every step, also of tensors that are replaced."""
    recorded_weights = [identities(step, "parameter") for step in recorded.steps(name)]
    assert recorded_weights[0]
    assert len(set(recorded_weights[0])) == len(recorded_weights[0])
    assert all(set(names) == set(recorded_weights[0]) for names in recorded_weights)


@pytest.mark.parametrize("name", KINDS)
def test_an_update_that_differs_is_found_in_the_next_step(recorded: Recorded, name: str) -> None:
    """A different update in step 2 shows in the weights of step 3 and nowhere before."""
    compared = compare(recorded.lines(name), recorded.lines(f"{name}_late"))
    first = compared.first
    assert first is not None
    expected = "hyperparameters" if name == "within_backward" else "parameter"
    step = LATE if name == "within_backward" else LATE + 1
    assert (first.step, first.event.kind) == (step, expected)


@pytest.mark.parametrize("name", sorted(KINDS.keys() - REBOUND))
def test_the_last_update_is_in_the_final_weights(recorded: Recorded, name: str) -> None:
    """The process ends after it, and no later backward pass could show it."""
    end, last = recorded.end(name), recorded.steps(name)[-1]
    final = {event.identity: event.digest for event in end.final}
    began = {event.identity: event.digest for event in of_kind(last, "parameter")}
    assert began.keys() <= final.keys()
    assert all(final[identity] != digest for identity, digest in began.items())


def test_backward_passes_without_an_update_are_no_step(recorded: Recorded) -> None:
    """They are events of a step that does not end."""
    assert recorded.steps("frozen") == []
    end = recorded.end("frozen")
    assert (end.complete, len(of_kind(end, "loss"))) == (False, STEPS)


def test_the_record_counts_steps_without_an_optimizer(recorded: Recorded) -> None:
    """So that an answer can say how its steps end."""
    assert recorded.end("by_data").unseen.updates == STEPS
    assert recorded.end("within_backward").unseen.updates == 0


# Calls and models that are not trained


@pytest.mark.parametrize("name", ["probed", "probed_with_anything"])
def test_a_call_that_reaches_no_loss_is_not_recorded(recorded: Recorded, name: str) -> None:
    """Its input and its weights differ in every run; those of the training do not."""
    first = recorded.steps(name)[0]
    assert identities(first, "call") == ["c0"]
    assert identities(first, "batch") == ["c0[0]"]
    assert compare(recorded.lines(name), recorded.lines(f"{name}_again")).first is None


def test_a_detached_output_is_part_of_the_training(recorded: Recorded) -> None:
    """The call of a generator reaches no loss where the discriminator is trained."""
    first, second = recorded.steps("generated")[:2]
    assert identities(first, "call") == identities(second, "call") == ["c0", "c1"]


def test_a_model_that_the_training_changes_is_compared_in_the_end(recorded: Recorded) -> None:
    """Only its buffer differs, and it is in no optimizer."""
    first = compare(recorded.lines("codebook"), recorded.lines("codebook_late")).first
    assert first is not None
    assert (first.event.kind, first.event.identity) == ("final buffer", "x0.vectors")


def test_a_model_that_stays_as_it_was_is_not_compared(recorded: Recorded) -> None:
    """It is called in each step, and its weights differ in every run."""
    lines = [recorded.lines(name) for name in ("with_another_model", "with_another_model_again")]
    assert compare(*lines).first is None


# Threads


def test_one_record_cannot_have_threads_that_train_at_the_same_time(recorded: Recorded) -> None:
    """The order of their steps is chance, and the record counts it."""
    assert recorded.end("parallel").unseen.thread_overlaps > 0


def test_each_thread_has_a_record_of_its_own(threads: Recorded) -> None:
    """Its name is that of the thread, and only the thread with a different update differs."""
    sides = [threads.traces(name) for name in ("parallel", "parallel_late")]
    named = [
        {trace.head.process.name: trace for trace in side if trace.head.process} for side in sides
    ]
    assert named[0].keys() == {"worker 1", "worker 2"}
    firsts = {
        name: compare(named[0][name].lines(), named[1][name].lines()).first for name in named[0]
    }
    assert firsts["worker 1"] is None
    first = firsts["worker 2"]
    assert first is not None
    assert (first.step, first.event.kind) == (LATE, "hyperparameters")
    ends = [trace.end() for trace in sides[0]]
    assert [(end.steps, end.unseen.thread_overlaps) for end in ends if end] == [(STEPS, 0)] * 2


def test_the_order_of_the_keys_of_a_mapping_does_not_count(recorded: Recorded) -> None:
    """Keys that come from a set have a different order in every process."""
    lines = [recorded.lines(name) for name in ("mapping", "mapping_reversed")]
    assert compare(*lines).first is None
