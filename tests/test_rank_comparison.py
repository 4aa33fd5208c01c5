"""The cause of a difference between numbers of ranks, and the samples of two runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from xorbench.errors import BadOption
from xorbench.programs.questions import ranks
from xorbench.programs.questions.ranks import RankRuns, starts_other_ranks
from xorbench.programs.rank_agreement import Agreement
from xorbench.programs.rank_comparison import (
    FACTOR,
    HOOK,
    LOCAL,
    SAME,
    RunsCompared,
    SampleComparison,
    gross_difference,
)
from xorbench.programs.rounding import Array, Sketch, Step, read_steps
from xorbench.programs.whole_steps import (
    WholeStep,
    as_one,
    ranks_of,
    steps_from,
    whole_steps,
    with_loss,
)
from xorbench.records.ended import Ended
from xorbench.records.trace import ProcessInfo, TraceEvent, TraceHead, TraceStep

KEY = ("gradient", "w")


def tensor(seed: int) -> Array:
    """A tensor by its sketch."""
    return np.random.default_rng(seed).standard_normal(251)


def step(
    whole: Array,
    shares: Sequence[Array] = (),
    samples: str = "",
    more: dict[tuple[str, str], list[Array]] | None = None,
) -> WholeStep:
    """A step with one gradient, and further tensors that each rank holds whole."""
    others = more or {}
    sketches = {KEY: Sketch(whole, 1000, "float32")}
    sketches |= {key: Sketch(sums[0], 1000, "float32") for key, sums in others.items()}
    return WholeStep(Step(sketches), {KEY: list(shares), **others}, Counter(samples))


@pytest.mark.parametrize(
    ("shares", "pattern"),
    [
        ([2 * tensor(0), 2 * tensor(0)], "2 times the right one: a sum in place of a mean"),
        (
            [tensor(0) / 2, tensor(0) / 2],
            "1/2 of the right one: a mean is divided twice, or a sum is averaged",
        ),
        ([3 * tensor(0), 3 * tensor(0)], "3 times the right one"),
        (
            [tensor(0) + tensor(1), tensor(0) - tensor(1)],
            "rank 0 and rank 1 have a share each: a reduction is missing",
        ),
        (
            [tensor(0) / 2, tensor(0)],
            "rank 0 has 0.5 times, rank 1 has 1 times the right one",
        ),
        ([tensor(1), tensor(2)], "rank 0 and rank 1 have different gradients"),
    ],
)
def test_the_pattern_of_a_gradient_is_named(shares: list[Array], pattern: str) -> None:
    """A factor, or the share of a rank, shows in the sketches."""
    cause = gross_difference([step(tensor(0))], [step(shares[0], shares)])
    assert cause is not None
    assert (cause.row.step, cause.row.name, cause.row.text) == (0, "w", pattern)


@pytest.mark.parametrize(("factor", "hint"), [(3, FACTOR), (1 / 3, FACTOR), (0.738, LOCAL)])
def test_only_a_whole_factor_is_a_division(factor: float, hint: str) -> None:
    """Any other may be that of gradients which each rank clips before the reduction."""
    cause = gross_difference([step(tensor(0))], [step(factor * tensor(0))])
    assert cause is not None
    assert cause.hint == hint


def test_batchnorm_without_synchronization_is_the_cause() -> None:
    """Its running mean differs between the ranks."""
    more = {("buffer", "norm.running_mean"): [tensor(3), tensor(4)]}
    cause = gross_difference([step(tensor(0))], [step(tensor(1), [tensor(1)] * 2, more=more)])
    assert cause is not None
    assert cause.row.text == "BatchNorm norm normalizes by the rows of each rank, not of all"


def test_statistics_that_differ_later_have_another_cause() -> None:
    """Normalization by the rows of each rank shows in the first step."""
    same, more = ({("buffer", "norm.running_mean"): [tensor(3), tensor(n)]} for n in (3, 4))
    a = [step(tensor(0))] * 2
    b = [step(tensor(0), [tensor(0)] * 2, more=same), step(tensor(1), [tensor(1)] * 2, more=more)]
    cause = gross_difference(a, b)
    assert cause is not None
    assert cause.row.text == "buffer norm.running_mean differs between the ranks"


def test_initial_weights_that_differ_between_ranks_are_named() -> None:
    """The sketch is that of the rank that differs."""
    key = ("initial", "w")
    a, b = (step(tensor(0), more={key: sums}) for sums in ([tensor(1)], [tensor(2), tensor(1)]))
    cause = gross_difference([a], [b])
    assert cause is not None
    assert (cause.row.kind, cause.row.text) == (
        "initial",
        "rank 0 and rank 1 have different values",
    )


def test_another_buffer_that_differs_between_ranks_is_named() -> None:
    """The ranks update a buffer from their own rows."""
    more = {("buffer", "mean"): [tensor(3), tensor(4)]}
    cause = gross_difference([step(tensor(0))], [step(tensor(1), [tensor(1)] * 2, more=more)])
    assert cause is not None
    assert cause.row.text == "buffer mean differs between the ranks"


def test_ranks_with_different_numbers_of_rows_are_named() -> None:
    """The mean of their means is not the mean."""
    b = replace(step(tensor(1), [tensor(1)] * 2), rows=[2, 1])
    cause = gross_difference([step(tensor(0))], [b])
    assert cause is not None
    assert cause.row.text == "the ranks have 2, 1 rows; a mean of their means is not the mean"


def test_a_sum_of_shards_in_place_of_a_mean_is_named() -> None:
    """Two ranks have the batch, and no rank has the whole gradient."""
    b = replace(step(2 * tensor(0)), shares={}, peers=[0, 1])
    cause = gross_difference([step(tensor(0))], [b])
    assert cause is not None
    assert cause.row.text == "2 times the right one: a sum in place of a mean"


def test_initial_shards_that_differ_have_a_hint() -> None:
    """No rank has the whole tensor; a buffer that differs is not the cause."""
    key = ("initial", "w")
    a = step(tensor(0), more={key: [tensor(1)]})
    mean = {("buffer", "norm.running_mean"): [tensor(3), tensor(4)]}
    b = replace(step(tensor(0), more={key: [tensor(2)], **mean}), shares=mean)
    cause = gross_difference([a], [b])
    assert cause is not None
    assert cause.row.text.startswith("the difference is")
    assert cause.hint == SAME


@pytest.mark.parametrize("division", [0.5, 2])
def test_a_division_by_the_passes_of_a_step_is_named(division: float) -> None:
    """One rank accumulates four passes, two ranks two each; the divisor is missing or doubled."""
    a, b = step(tensor(0)), step(division * tensor(0), [division * tensor(0)] * 2)
    cause = gross_difference([replace(a, passes=4)], [replace(b, passes=2)])
    assert cause is not None
    assert cause.row.text == f"{division:.4g} times the right one, with 2 passes in place of 4"


def test_each_rank_is_compared_with_the_reference() -> None:
    """The rank that differs counts, in its weights and in its hyperparameters."""
    key = ("parameter", "w")
    a = step(tensor(0), more={key: [tensor(2)]})
    b = step(tensor(0), more={key: [tensor(2), tensor(3)]})
    rates = [{"w": {"lr": 0.1}}, {"w": {"lr": 0.2}}]
    a, b = (
        replace(a, step=replace(a.step, hyperparameters=rates[0])),
        replace(b, hyperparameters=rates),
    )
    whole = as_one(b, a, None).step
    assert np.array_equal(whole.sketches[key].sums, tensor(3))
    assert whole.hyperparameters == rates[1]


def test_a_difference_that_grows_from_rounding_is_not_gross() -> None:
    """Only a jump is reported without noise."""
    a = [step(tensor(0)) for _ in range(3)]
    b = [step(tensor(0) + scale * tensor(1)) for scale in (1e-6, 1e-3, 0.1)]
    assert gross_difference(a, b) is None
    assert gross_difference(a[:2], [b[0], b[2]]) is not None


@pytest.mark.parametrize(
    ("a", "b", "text", "is_lost"),
    [
        (["ab", "cd"], ["ba", "cd"], "the same in 2 steps", False),
        (["ab", "cd"] * 2, ["ab", "cd"] * 2, "the same in 4 steps; the batches of step 0 return in"
         " step 2, as without shuffling or without set_epoch()", False),
        (["ab", "ac"], ["ab", "aa"], "in a different order from step 1 on", False),
        (["abcd"] * 2, ["abcd", "abbd"], "1 seen too often, 1 too rarely", True),
        (["ab", "cd"], ["ac", "bd"], "in a different order from step 0 on", False),
        (["ab", "cd"], ["ab", "cc"], "1 seen twice, 1 never", True),
        (["ab", "c"], ["ab", "ca"], "1 seen twice, none missing, as with a padded sampler, from"
         " step 1 on", False),
        (["ab", "ac"], ["ab", "dd"], "1 new row, as in another order or with random augmentation,"
         " from step 1 on", False),
        (["ab", "cd"], ["ab", "xy"], "2 new rows, as in another order or with random augmentation,"
         " from step 1 on", False),
        (["ab", "cd", "ac"], ["ab", "cc", "ac"], "1 seen twice, 1 never", True),
        (["ab", "cd", "ab"], ["ab", "cd", "aa"], "1 seen too often, 1 too rarely", True),
        (["ab", "cd", "ab"], ["ab", "cd", "bc"], "in a different order from step 2 on", False),
        (["ab", "", "cd", ""], ["ab", "", "cc", ""], "1 seen twice, 1 never", True),
        (["abcd", "efgh"], ["ab", "ef"], "2 rows in place of 4 in the first step", False),
    ],
)  # fmt: skip
def test_samples_are_multisets(a: list[str], b: list[str], text: str, is_lost: bool) -> None:
    """A loss of samples in an epoch differs from an order and from padding.

    The second optimizer of a step has no batch.
    """
    compared = SampleComparison(
        [step(tensor(0), samples=rows) for rows in a],
        [step(tensor(0), samples=rows) for rows in b],
    )
    assert (compared.text, compared.is_lost) == (text, is_lost)


def test_samples_that_return_after_a_resume_are_lost() -> None:
    """The uninterrupted run has seen them before."""
    a, b = ([step(tensor(0), samples=rows)] for rows in ("cd", "ab"))
    compared = SampleComparison(a, b, before=b)
    assert (compared.text, compared.is_lost) == ("2 seen twice, 2 never", True)
    assert not SampleComparison(a, b).is_lost


def test_a_number_of_ranks_that_does_not_divide_the_batch_is_refused() -> None:
    """The ranks together have fewer rows than one rank."""
    a, b = ([step(tensor(0), samples=rows)] for rows in ("abcdefgh", "abcdef"))
    compared = RunsCompared(("1 rank", "3 ranks"), a, b, noise=list)
    with pytest.raises(BadOption, match="a step has 8 rows with 1 rank, 6 with 3 ranks"):
        compared.require_equal_batches()


def test_rows_of_another_dimension_than_the_samples_are_not_compared() -> None:
    """Inputs may have time before the batch, and each rank all times of its samples."""
    a = [replace(step(tensor(0), samples="abcde"), rows=[5], elements=400)]
    b = [replace(step(tensor(0), samples="fghijklmno"), rows=[5, 5], elements=400)]
    compared = RunsCompared(("1 rank", "2 ranks"), a, b, noise=list)
    compared.require_equal_batches()
    assert compared.samples.text.startswith("not compared: ")


@pytest.mark.parametrize(
    ("draws", "shares", "outcome"),
    [
        (False, [tensor(1), tensor(1)], "fail"),
        (True, [tensor(1), tensor(1)], "inconclusive"),
        (True, [2 * tensor(0), 2 * tensor(0)], "fail"),
    ],
)
def test_random_draws_of_the_model_explain_a_difference_without_a_pattern(
    draws: bool, shares: list[Array], outcome: str
) -> None:
    """Masks of dropout differ between ranks by design; a factor of 2 has another cause."""
    a = [replace(step(tensor(0), samples="ab"), draws=draws)]
    compared = RunsCompared(("1 rank", "2 ranks"), a, [step(shares[0], shares, "ab")], noise=list)
    assert compared.conclusion(Agreement()).outcome == outcome


@pytest.mark.parametrize(
    ("shares", "outcome", "hint"),
    [
        ([tensor(1), tensor(1)], "inconclusive", "compare again without register_comm_hook()"),
        ([2 * tensor(0), 2 * tensor(0)], "fail", FACTOR),
    ],
)
def test_a_communication_hook_explains_a_difference_without_a_pattern(
    shares: list[Array], outcome: str, hint: str
) -> None:
    """It may compress the gradients; a sum in place of a mean has another cause."""
    agreement = Agreement(not_judged=Counter({HOOK: 6}))
    a, b = [step(tensor(0), samples="ab")], [step(shares[0], shares, "ab")]
    conclusion = RunsCompared(("1 rank", "2 ranks"), a, b, noise=list).conclusion(agreement)
    assert (conclusion.outcome, conclusion.hint) == (outcome, hint)


def test_a_gradient_without_a_pattern_has_a_hint() -> None:
    """Such as a clipped one: the norm is that of the rows of a rank."""
    a, b = [step(tensor(0))], [step(tensor(1), [tensor(1)] * 2)]
    conclusion = RunsCompared(("1 rank", "2 ranks"), a, b, noise=list).conclusion(Agreement())
    assert conclusion.hint.startswith("look for a number that each rank computes from its own rows")


def test_runs_without_common_steps_are_inconclusive() -> None:
    """The reason is not the order of the samples."""
    compared = RunsCompared(("1 rank", "2 ranks"), [step(tensor(0))], [], noise=list)
    conclusion = compared.conclusion(Agreement())
    assert conclusion.outcome == "inconclusive"
    assert conclusion.finding.endswith("the runs have too few common steps")
    assert dict(conclusion.details)["steps"] == "1 with 1 rank, 0 with 2 ranks"


@pytest.mark.parametrize(
    ("loss", "losses", "whole"),
    [
        (None, [1.0, 3.0], 2.0),
        (None, [0.5, 1.5], 2.0),
        (None, [5.0, 9.0], None),
        ("sum", [5, 9], 14),
    ],
)
def test_the_loss_of_a_rank_is_a_share(
    loss: str | None, losses: list[float], whole: float | None
) -> None:
    """The mean or the sum is recognized; else the loss is compared only if the option is given."""
    key = ("loss", "")
    sums = [np.array([value, *[0.0] * 250]) for value in losses]
    reference = step(tensor(0), more={key: [np.array([2.0, *[0.0] * 250])]})
    compared = with_loss(step(tensor(0), more={key: sums}), reference, loss).step.sketches  # type: ignore[arg-type]
    assert (compared[key].sums[0] if key in compared else None) == whole


def test_launchers_with_other_numbers_of_ranks_are_recognized() -> None:
    """Torchrun and accelerate, in both spellings."""
    two = ["torchrun", "--nproc-per-node", "2", "train.py"]
    assert starts_other_ranks(two, ["torchrun", "--nproc_per_node=1", "train.py"])
    assert starts_other_ranks(two, ["accelerate", "launch", "--num_processes", "1", "train.py"])
    assert starts_other_ranks(two, ["python", "-m", "torch.distributed.run", "train.py"])
    assert not starts_other_ranks(two, two)
    assert not starts_other_ranks(two, ["python", "train.py"])


def test_kills_share_the_runs_with_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are made once."""
    made: list[str] = []

    class Maker:
        def run(self, name: str, *_: object, **__: object) -> None:
            made.append(name)

    monkeypatch.setattr(ranks, "whole_steps", lambda _run: made[-1])
    monkeypatch.setattr(ranks, "trouble_of", lambda *_: None)
    runs = RankRuns(Maker(), ())  # type: ignore[arg-type]
    names = ["noise-1", "noise-2", "noise-3", "noise-4"]
    assert (runs.noise(), runs.noise(), made) == (names, names, names)


def test_frozen_parameters_do_not_decide_where_a_training_resumes() -> None:
    """They are equal in each step, and often more than the trained ones."""
    same = [tensor(9)]
    starts = [
        {("initial", "w"): [tensor(n)]} | {("initial", x): same for x in "abc"} for n in (0, 2)
    ]
    steps = [
        {("parameter", "w"): [tensor(n)]} | {("parameter", x): same for x in "abc"} for n in (1, 2)
    ]
    steps[0] |= starts[0]
    whole = [step(tensor(0), more=tensors) for tensors in [*steps, steps[1]]]
    resumed = step(tensor(0), more=starts[1])
    assert ranks.resumed_at(whole, [resumed]) == 2


def test_later_steps_begin_with_the_weights_of_the_step_before() -> None:
    """Initial weights of a resume are compared with those that the last step before it leaves."""
    weights = [step(tensor(0), more={("parameter", "w"): [tensor(n)]}) for n in (1, 2)]
    (later,) = steps_from(weights, 1)
    assert np.array_equal(later.step.sketches["initial", "w"].sums, tensor(1))
    assert np.array_equal(later.shares["initial", "w"], [tensor(1)])


def recorded(number: int, events: list[TraceEvent]) -> TraceStep:
    """A step of a record."""
    return TraceStep(step=number, at_s=0.0, took_s=0.0, recorder_s=0.0, events=events)


def test_earlier_processes_and_steps_without_training_are_ignored(tmp_path: Path) -> None:
    """A process without ranks trains first; two optimizers step before they load their state."""
    (tmp_path / "records").mkdir()
    calls = [[TraceEvent("call", "c0", None)], [], [], [TraceEvent("call", "c0", None)]]
    for rank, events in ((None, calls[:1]), ("0", calls[1:])):
        process = ProcessInfo(argv=["train.py"], rank=rank, restart=None, started_ns=0)
        head = TraceHead(producer="recorder", digest="", level="", process=process, machine={})
        steps = [recorded(number, each) for number, each in enumerate(events)]
        path = tmp_path / "records" / f"{2 if rank else 1}.jsonl"
        path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in [head, *steps]))
    run = Ended(number=1, folder=tmp_path, how="ended", code=0, wall_s=1.0)
    assert [trace.step_count for trace in ranks_of(run).values()] == [3]
    assert [whole.trains for whole in whole_steps(run)] == [True]


def test_hyperparameters_are_those_of_the_optimizer_that_steps() -> None:
    """Those of the other may be of an earlier step that only made its state."""
    names = {f"o{n}.g0.p0": (f"w{n}", [1], "float32") for n in (0, 1)}
    rates: dict[str, list[dict[str, Any]]] = {"o0": [{"lr": 0.1}], "o1": [{"lr": 0.0}]}
    events = [TraceEvent("hyperparameters", "o0", "")]
    line = msgspec.structs.replace(recorded(0, events), names=names, hyperparameters=rates)
    (only,) = read_steps([line])
    assert only.hyperparameters == {"w0": {"lr": 0.1}}
