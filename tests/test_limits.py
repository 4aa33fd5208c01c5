"""When identical records do not prove identical runs, and actions that no record compares."""

from typing import Any

import pytest

from xorbench.programs.conclusion import CheckRuns, Conclusion, RunPair, conclude
from xorbench.programs.first_difference import compare
from xorbench.programs.limits import not_compared
from xorbench.records.trace import More, TraceEnd, TraceEvent, TraceStep, Unseen

Line = TraceStep | TraceEnd


def step(number: int, **more: Any) -> TraceStep:
    """A step with one parameter."""
    events = [TraceEvent("parameter", "o0.g0.p0", f"digest {number}")]
    return TraceStep(
        step=number, at_s=0.0, took_s=0.0, recorder_s=0.0, **{"events": events, **more}
    )


def end(**more: Any) -> TraceEnd:
    """The last line of a record of three steps."""
    final = [TraceEvent("final parameter", "o0.g0.p0", "final")]
    return TraceEnd(end=True, **{"steps": 3, "complete": True, "final": final, **more})


def record(*last: TraceEnd, steps: int = 3, **more: Any) -> list[Line]:
    """A record with this number of steps, and a last line if given."""
    return [*(step(number, **more) for number in range(steps)), *last]


def answer(a: list[Line], b: list[Line], *, ended_by_parent: bool = False) -> Conclusion:
    """The answer of a check of runs with these records."""
    pair = RunPair("train.py", compare(a, b), "run 2", ended_by_parent=ended_by_parent)
    return conclude(CheckRuns(runs=2, pairs=[pair]))


def test_complete_identical_records_prove_identical_runs() -> None:
    """The control of the tests below."""
    assert answer(record(end()), record(end())).outcome == "pass"


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (record(), record(), "has no last line"),
        (record(end()), record(), "has no last line"),
        (record(), record(end()), "has no last line"),
        (record(), record(end(steps=5), steps=5), "has no last line"),
        (record(end(left_out=2)), record(end(steps=5), steps=5), "lacks 2 steps"),
        (record(end(left_out=2)), record(end(left_out=2)), "lacks 2 steps"),
        (record(end(unseen=Unseen(hooks_removed=True))), record(end()), "removed the recorder's"),
        (
            record(end(unseen=Unseen(thread_overlaps=4))),
            record(end()),
            "train at the same time",
        ),
        (record(end(), errors=["OSError: x"]), record(end()), "the recorder failed: OSError: x"),
        (record(end(), events=[]), record(end(), events=[]), "no parameter could be read"),
    ],
)
def test_a_record_that_does_not_cover_its_training_is_inconclusive(
    a: list[Line], b: list[Line], reason: str
) -> None:
    """The answer is inconclusive and gives the reason and the number of identical steps."""
    conclusion = answer(a, b)
    assert conclusion.outcome == "inconclusive"
    assert conclusion.sentence.startswith("inconclusive after 3 steps, identical so far: ")
    assert reason in conclusion.sentence


def test_a_difference_counts_in_an_incomplete_record() -> None:
    """Different digests fail also without a last line."""
    changed = [*record()[:2], step(2, events=[TraceEvent("parameter", "o0.g0.p0", "different")])]
    conclusion = answer(record(), changed)
    assert (conclusion.outcome, conclusion.step) == ("fail", 2)


def test_fewer_steps_before_a_last_line_are_a_difference() -> None:
    """The last line shows that the process ended after them."""
    assert answer(record(end()), record(end(steps=5), steps=5)).outcome == "fail"


def test_a_process_that_its_parent_ends_needs_no_last_line() -> None:
    """A launcher that restarts it, or a pool, may end it at any time."""
    assert answer(record(), record(), ended_by_parent=True).outcome == "pass"


@pytest.mark.parametrize("kind", ["final parameter", "final buffer", "final state"])
def test_final_weights_are_compared_by_identity(kind: str) -> None:
    """Order and unreferenced weights of one side do not count; a different digest fails."""
    both = [TraceEvent(kind, "a", "1"), TraceEvent(kind, "b", "2")]
    garbage = TraceEvent(kind, "c", "3")
    a, b = (record(end(final=final)) for final in ([*both, garbage], both[::-1]))
    assert answer(a, b).outcome == "pass"
    changed = record(end(final=[both[0], TraceEvent(kind, "b", "9")]))
    assert (answer(a, changed).outcome, "the final state" in answer(a, changed).sentence) == (
        "fail",
        True,
    )


def test_a_final_weight_without_a_digest_is_named() -> None:
    """The coverage gives the reason."""
    final = [TraceEvent("final parameter", "o0.g0.p0", None, More(not_recorded="nested"))]
    conclusion = answer(record(end(final=final)), record(end(final=final)))
    assert "final parameter: nested" in dict(conclusion.details)["coverage"]


def test_parts_that_are_not_compared_are_listed_in_one_line() -> None:
    """Evaluation, other models, loose tensors, saved files, processes without the recorder."""
    unseen = Unseen(evaluations=2, models=["AveragedModel"], tensors=1)
    coverage = compare(record(end(unseen=unseen)), record(end(unseen=unseen))).coverage
    lines = not_compared([coverage], [f"{n}.pt" for n in range(7)], ["python -I eval.py"])
    assert "; ".join(lines) == (
        "evaluation after the last step (2 calls);"
        " 1 tensor with a gradient that no optimizer has;"
        " weights of models that are not trained (AveragedModel);"
        " large saved files (0.pt, 1.pt, 2.pt, 3.pt, 4.pt and 2 more);"
        " processes without the recorder (python -I eval.py)"
    )
    assert not_compared([compare(record(end()), record(end())).coverage]) == []
