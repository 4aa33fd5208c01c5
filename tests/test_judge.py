"""Estimates, checks on edited records, and exit codes."""

import itertools
import math
import struct
from typing import Any

import msgspec
import numpy as np
import pytest

from xorbench.answers import CORRECT, IDENTICAL
from xorbench.records.schema.golden import Fact
from xorbench.records.schema.run import Run
from xorbench.records.schema.training import Count, TrainingRecord, WeightRecord
from xorbench.state_digest import first_difference
from xorbench.stats.intervals import estimates, median_log_ratio, pool, pooled, spread
from xorbench.verdicts import Verdict, exit_code, summary
from xorbench.xor.analysis.engine_gains import gains, identity_text, largest_ulps, pays_after
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.weights import sha256_of
from xorbench.xor.checks import CHECKS, judge
from xorbench.xor.matrix.case import Case
from xorbench.xor.report.summary import answers


def doctored(run: Run, index: int, **changes: Any) -> Run:
    """The run with fields of one of its trainings changed."""
    trainings = list(run.trainings)
    trainings[index] = msgspec.structs.replace(trainings[index], **changes)
    return msgspec.structs.replace(run, trainings=trainings)


def failing(run: Run) -> set[str]:
    """The failed checks."""
    return {verdict.check for verdict in judge(Evidence(run)) if verdict.outcome == "fail"}


def on_device(training: TrainingRecord, device: str, **changes: Any) -> TrainingRecord:
    """The training as if a different device had run it."""
    case = Case(device, drop_last=training.case.drop_last)
    return msgspec.structs.replace(training, case=case, **changes)


def with_accelerator(run: Run, **changes: Any) -> Run:
    """The run with a copy of its first training on an accelerator."""
    copy = on_device(run.trainings[0], "cuda", **changes)
    info = msgspec.structs.replace(run.info, cases=[*run.info.cases, copy.case])
    return msgspec.structs.replace(run, info=info, trainings=[*run.trainings, copy])


# Statistics


def test_an_estimate_is_the_geometric_mean_of_its_processes() -> None:
    """Two processes at 1 and 4: 2, with an interval around it."""
    estimate = pooled({"a": [0.0, math.log(4)]})["a"]
    assert estimate.value == pytest.approx(2.0)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < 2.0 < estimate.high
    assert estimate.low * estimate.high == pytest.approx(4.0)


def test_one_process_has_no_interval() -> None:
    """One process has no interval."""
    estimate = pooled({"a": [0.5], "b": [0.7]})["a"]
    assert (estimate.low, estimate.high, estimate.processes) == (None, None, 1)


def test_the_interval_is_students_t() -> None:
    """Processes that differ as a whole are one degree of freedom (t = 12.706), else all are."""
    deviation = math.sqrt((4 * 0.1**2) / 2)
    shared = pooled({"a": [0.0, 0.2], "b": [1.0, 1.2]})["a"]
    assert shared.high == pytest.approx(math.exp(0.1 + 12.7062 * deviation / math.sqrt(2)))
    apart = pooled({"a": [0.0, 0.2], "b": [1.2, 1.0]})["a"]  # in each its own process is ahead
    assert apart.high is not None
    assert apart.high <= shared.high


@pytest.mark.parametrize(
    ("processes", "shared", "least"),
    [
        (2, 0.0, 0.94),
        (2, 0.007, 0.94),
        (2, 0.016, 0.94),
        (2, 0.03, 0.94),
        (5, 0.0, 0.92),
        (5, 0.007, 0.92),
        (5, 0.03, 0.92),
    ],
)
def test_pooled_intervals_cover_the_true_value(processes: int, shared: float, least: float) -> None:
    """In 400 simulated runs of 19 variants, from nothing to nearly all shared within a process."""
    random = np.random.default_rng(7)
    draws = random.normal(0.0, 0.0055, size=(400, 19, processes))
    draws += random.normal(0.0, shared, size=(400, 1, processes))
    hits = [
        estimate.low <= 1.0 <= estimate.high
        for run in draws
        for estimate in pooled({str(i): list(row) for i, row in enumerate(run)}).values()
        if estimate.low is not None and estimate.high is not None
    ]
    assert np.mean(hits) >= least


def test_where_processes_are_missing_the_degrees_are_the_fewest() -> None:
    """The degrees of 5 and 3 processes are (4 + 2)² ÷ (2 + √2)², never above 4."""
    uneven = pool({"a": [0.0, 0.1, 0.2, 0.3, 0.5], "b": [0.0, 0.1, 0.3]})
    assert uneven.dof == pytest.approx(36 / (2 + math.sqrt(2)) ** 2)
    assert pool({"a": [0.0, 0.1, 0.3]}).dof == pytest.approx(2)


def test_a_known_deviation_joins_the_variance() -> None:
    """A known run-to-run deviation adds to the variance of the processes."""
    processes = {"a": [0.0, 0.02]}  # variance of the mean 0.0001, of one degree of freedom
    one_process, together = pool(processes), pool(processes, between=0.01)
    assert (one_process.variance("a"), one_process.dof_of("a")) == pytest.approx((0.0001, 1.0))
    assert (together.variance("a"), together.dof_of("a")) == pytest.approx((0.0002, 4 / 1.05))
    assert pool({"a": [0.5]}, between=0.01).variance("a") is None


@pytest.mark.parametrize(
    ("processes", "shared", "between", "least", "most"),
    [
        (5, 0.0, 0.003, 0.93, 1.0),
        (5, 0.003, 0.003, 0.93, 1.0),
        (2, 0.0, 0.003, 0.92, 1.0),
        (2, 0.005, 0.003, 0.92, 1.0),
        (5, 0.0, 0.0, 0.0, 0.85),
    ],
)
def test_intervals_include_run_to_run_variance(
    processes: int, shared: float, between: float, least: float, most: float
) -> None:
    """In 400 simulated runs that differ by 0.3% each as a whole; without the term they do not."""
    random = np.random.default_rng(7)
    draws = random.normal(0.0, 0.005, size=(400, 4, processes))
    draws += random.normal(0.0, shared, size=(400, 1, processes))
    draws += random.normal(0.0, 0.003, size=(400, 4, 1))
    hits = [
        one.low <= 1.0 <= one.high
        for run in draws
        for one in estimates(pool({str(i): list(x) for i, x in enumerate(run)}, between)).values()
        if one.low is not None and one.high is not None
    ]
    assert least <= np.mean(hits) <= most


def test_quartiles_interpolate() -> None:
    """Median, quartiles and their distance, as NumPy and pytest-benchmark count them."""
    result = spread([1.0, 2.0, 3.0, 4.0])
    assert (result.median, result.q1, result.q3, result.iqr) == (2.5, 1.75, 3.25, 1.5)


def test_a_ratio_is_paired_by_round() -> None:
    """A machine that slows down by half during the run does not change the ratio."""
    slow = [1.0, 1.0, 1.0, 5.0, 5.0]
    assert median_log_ratio([2 * x for x in slow], slow) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [(["x", "y"], ["x", "y"], None), (["x", "y"], ["x", "z"], 1), (["x"], ["x", "y"], None)],
)
def test_epoch_digests_diverge_at_their_first_difference(
    a: list[str], b: list[str], expected: int | None
) -> None:
    """Equal epoch digests, or a prefix, have no first difference."""
    assert first_difference(a, b) == expected


# Checks


def test_a_clean_run_raises_no_alarm(quick_run: Run) -> None:
    """Every check of the registry gives a verdict, none fails, and the code is 0."""
    verdicts = judge(Evidence(quick_run))
    assert {verdict.check for verdict in verdicts} == set(CHECKS)
    assert failing(quick_run) == set()
    assert exit_code(verdicts) == 0


def test_one_wrong_point_fails_accuracy(quick_run: Run) -> None:
    """499 of 500 is not 100%: it is counted, not rounded."""
    run = doctored(quick_run, 0, test=Count(correct=499, total=500))
    verdict = next(v for v in judge(Evidence(run)) if v.check == "accuracy" and v.outcome == "fail")
    assert "499/500" in verdict.actual
    assert "--epochs" in verdict.hint


def test_weights_that_are_not_finite_fail_accuracy(quick_run: Run) -> None:
    """Weights that are not finite fail with every point correct; the hint is not more epochs."""
    training = quick_run.trainings[0]
    assert training.weights is not None
    bias = training.weights["layer2.bias"]
    lost = msgspec.structs.replace(bias, hex=struct.pack("<f", math.nan).hex())
    losses = [*training.losses[:3], *(None for _ in training.losses[3:])]
    run = doctored(
        quick_run, 0, losses=losses, weights={**training.weights, "layer2.bias": lost}
    )  # fmt: skip
    verdict = next(v for v in judge(Evidence(run)) if v.check == "accuracy" and v.outcome == "fail")
    assert verdict.actual == "500/500; weights are not finite after epoch 3"
    assert verdict.hint == "lr 0.1 may be too high here: try a lower --lr"


def test_a_loss_that_is_not_finite_fails_accuracy(quick_run: Run) -> None:
    """A loss that is not finite fails although the weights are finite."""
    losses = [*quick_run.trainings[0].losses[:-1], None]
    evidence = Evidence(doctored(quick_run, 0, losses=losses))
    verdict = next(v for v in judge(evidence) if v.outcome == "fail")
    assert verdict.actual == f"500/500; loss is not finite since epoch {len(losses) - 1}"
    assert "lower --lr" in verdict.hint


def test_an_output_that_is_not_finite_fails_accuracy(quick_run: Run) -> None:
    """An output that is not finite fails although points, weights and losses pass."""
    count = msgspec.structs.replace(quick_run.trainings[0].test, not_finite=3)
    run = doctored(quick_run, 0, test=count)
    verdict = next(v for v in judge(Evidence(run)) if v.check == "accuracy" and v.outcome == "fail")
    assert verdict.actual == "500/500; 3 of 500 outputs are not finite"
    assert "--lr" not in verdict.hint


def test_a_wrong_point_is_never_answered_with_yes(quick_run: Run) -> None:
    """Wrong points are never a yes, even without a verdict on accuracy."""
    run = doctored(quick_run, 0, test=Count(correct=499, total=500))
    verdicts = [v for v in judge(Evidence(run)) if v.check != "accuracy"]
    words = {answer.question: answer.word for answer in answers(Evidence(run), verdicts)}
    assert words[CORRECT] == "No"
    assert words[IDENTICAL] == "Yes"


def test_different_inputs_are_named_first(quick_run: Run) -> None:
    """The differing training is named, and the hint is to see this check first."""
    run = doctored(quick_run, 2, inputs_sha256="0" * 64)
    verdict = next(v for v in judge(Evidence(run)) if v.outcome == "fail")
    assert verdict.check == "inputs"
    assert quick_run.trainings[2].case.id in verdict.actual


def test_epoch_digests_that_diverge_fail_rerun_at_their_epoch(quick_run: Run) -> None:
    """The first epoch that differs is named, with the command that locates the difference."""
    epoch_digests = list(quick_run.trainings[0].epoch_digests)
    epoch_digests[41] = "0" * 64
    run = doctored(quick_run, 0, epoch_digests=epoch_digests)
    verdict = next(v for v in judge(Evidence(run)) if v.check == "rerun" and v.outcome == "fail")
    assert "at epoch 41" in verdict.actual
    case = f"{run.info.id}:{run.trainings[0].case.id}"
    assert verdict.hint.endswith(f"python -m xorbench diff '{case}#p0' '{case}#p1'")


def test_one_process_skips_rerun(quick_run: Run) -> None:
    """With nothing to compare, the check is skipped, not passed."""
    one_process = [t for t in quick_run.trainings if t.process == "p0"]
    run = msgspec.structs.replace(quick_run, trainings=one_process)
    outcomes = {v.outcome for v in judge(Evidence(run)) if v.check == "rerun"}
    assert outcomes == {"skipped"}


def test_a_warm_up_that_differs_fails(quick_run: Run) -> None:
    """State of an earlier training makes the check warm-up fail."""
    run = doctored(quick_run, 1, warmup_epoch_digests=["0" * 64])
    assert failing(run) == {"warm-up"}


def test_the_hint_of_warm_up_refers_to_a_failed_rerun(quick_run: Run) -> None:
    """The hint of warm-up refers to rerun if rerun fails, too."""
    first = quick_run.trainings[0]
    other = ["0" * 64] * len(first.epoch_digests)
    left_over = doctored(quick_run, 0, warmup_epoch_digests=other[:1])
    random = doctored(left_over, 0, epoch_digests=other)
    hints = [
        next(v.hint for v in judge(Evidence(run)) if v.check == "warm-up" and v.outcome == "fail")
        for run in (left_over, doctored(random, 0, warmup_epoch_digests=["1" * 64]))
    ]
    assert "state of one training" in hints[0]
    assert "rerun fails, too" in hints[1]


def test_a_must_change_that_kept_fails_invariance(quick_run: Run) -> None:
    """A drop_last without effect on the bits, despite a short batch, fails."""
    drops = {t.case.drop_last: t for t in quick_run.trainings if t.process == "p0"}
    run = quick_run
    for index, training in enumerate(run.trainings):
        if not training.case.drop_last:
            run = doctored(
                run,
                index,
                epoch_digests=drops[True].epoch_digests,
                warmup_epoch_digests=drops[True].warmup_epoch_digests,
            )
    verdict = next(v for v in judge(Evidence(run)) if v.check == "invariance")
    assert verdict.outcome == "fail"
    assert "have identical bits" in verdict.actual


def test_parity_passes_on_equal_answers_and_reports_the_largest_gap(quick_run: Run) -> None:
    """Identical predictions pass, and the largest weight difference is named."""
    weights = dict(quick_run.trainings[0].weights or {})
    bias = np.frombuffer(bytes.fromhex(weights["layer2.bias"].hex), "<f4") + np.float32(0.25)
    weights["layer2.bias"] = WeightRecord(dtype="float32", shape=[1], hex=bias.tobytes().hex())
    run = with_accelerator(quick_run, weights=weights)
    verdict = next(v for v in judge(Evidence(run)) if v.check == "parity")
    assert verdict.outcome == "pass"
    assert "0.25 (layer2.bias)" in verdict.actual


def test_parity_fails_on_one_different_answer(quick_run: Run) -> None:
    """One test point with a prediction different from the CPU's fails, and is named."""
    answers = quick_run.trainings[0].predictions
    flipped = answers[:7] + ("0" if answers[7] == "1" else "1") + answers[8:]
    run = with_accelerator(quick_run, predictions=flipped, reloaded_predictions=flipped)
    verdict = next(v for v in judge(Evidence(run)) if v.check == "parity")
    assert verdict.outcome == "fail"
    assert "1 differ, at points 7" in verdict.actual


def test_a_device_may_change_the_bits_and_is_not_judged(quick_run: Run) -> None:
    """A setting that may change the bits is reported, without a pass."""
    epoch_digests = ["0" * 64, *quick_run.trainings[0].epoch_digests[1:]]
    run = with_accelerator(quick_run, epoch_digests=epoch_digests)
    verdict = next(v for v in judge(Evidence(run)) if v.subject.startswith("device "))
    assert (verdict.outcome, verdict.actual) == ("skipped", "changed at epoch 0")


@pytest.mark.parametrize(
    "change",
    [
        {"reloaded_sha256": "0" * 64},
        {"reloaded_predictions": "0" * 500},
        {"weights_sha256": "0" * 64, "reloaded_sha256": "0" * 64},
    ],
)
def test_a_reload_that_differs_fails_save_and_load(change: dict[str, str], quick_run: Run) -> None:
    """A different digest, different predictions, or weights without the recorded digest fail."""
    assert "save and load" in failing(doctored(quick_run, 0, **change))


def test_a_digest_is_made_again_from_the_recorded_weights(quick_run: Run) -> None:
    """Without torch, from the hex in the file one_process."""
    for training in quick_run.trainings:
        assert training.weights is not None
        assert sha256_of(training.weights) == training.weights_sha256


def test_a_dead_process_fails_completion(quick_run: Run) -> None:
    """Even where its cases were all recovered."""
    processes = list(quick_run.info.processes)
    processes[0] = msgspec.structs.replace(processes[0], died="killed by SIGKILL")
    info = msgspec.structs.replace(quick_run.info, processes=processes)
    run = msgspec.structs.replace(quick_run, info=info)
    verdict = next(v for v in judge(Evidence(run)) if v.outcome == "fail")
    assert (verdict.check, verdict.subject) == ("completion", "process p0")


# Exit codes


def verdict(outcome: Any) -> Verdict:
    """A verdict with this outcome."""
    return Verdict(check="c", subject="s", outcome=outcome, expected="", actual="")


@pytest.mark.parametrize(
    ("outcomes", "interrupted", "missing", "code"),
    [
        (["pass"], False, False, 0),
        (["pass", "skipped"], False, False, 0),
        (["pass", "fail"], False, False, 1),
        (["pass", "inconclusive"], False, False, 3),
        (["fail", "inconclusive"], False, False, 1),
        (["skipped"], False, False, 3),
        ([], False, False, 3),
        (["fail"], False, True, 4),
        (["pass"], False, True, 4),
        (["fail"], True, True, 130),
    ],
)
def test_the_first_exit_code_that_applies(
    outcomes: list[str], interrupted: bool, missing: bool, code: int
) -> None:
    """130, 4, 1, 3, 0: in that order; a run in which nothing passed is 3."""
    verdicts = [verdict(outcome) for outcome in outcomes]
    assert exit_code(verdicts, interrupted=interrupted, device_missing=missing) == code


def test_many_failures_are_still_code_1() -> None:
    """An exit code is never a count: 256 failures do not wrap to 0."""
    assert exit_code(itertools.repeat(verdict("fail"), 256)) == 1


def test_the_summary_counts() -> None:
    """One line, each outcome counted."""
    assert (
        summary([verdict("pass"), verdict("fail"), verdict("pass")]) == "checks: 2 passed, 1 failed"
    )
    assert summary([]) == "checks: none judged"


# Engines


def with_engine(run: Run, engine: str, **changes: Any) -> Run:
    """The run with copies of its first case's trainings by a second engine, twice as fast."""
    first = run.info.cases[0]
    copy = Case(engine=engine, drop_last=first.drop_last)
    added = [
        msgspec.structs.replace(
            training,
            case=copy,
            epoch_s=[seconds / 2 for seconds in training.epoch_s],
            **{"startup_s": 1.0, **changes},
        )
        for training in run.trainings
        if training.case == first
    ]
    info = msgspec.structs.replace(run.info, cases=[*run.info.cases, copy])
    return msgspec.structs.replace(run, info=info, trainings=[*run.trainings, *added])


def test_one_engine_has_no_table(quick_run: Run) -> None:
    """One engine has no table of engines."""
    assert gains(Evidence(quick_run)) == []


def test_a_gain_is_paired_by_round_and_pays_for_its_start_up(quick_run: Run) -> None:
    """Half of the time in every round is twice the speed, in each process."""
    loader, replay = gains(Evidence(with_engine(quick_run, "replay")))
    assert loader.ratio is None
    assert replay.ratio is not None
    assert (replay.ratio.ratio, replay.ratio.processes) == (pytest.approx(2.0), 2)
    assert (identity_text(loader), identity_text(replay)) == ("", "yes")
    assert replay.break_even_after is not None
    extra_s = 1.0 - (loader.startup_s or 0.0)
    assert replay.break_even_after == math.ceil(extra_s * replay.epochs_per_s.value)


def test_an_engine_with_different_bits_is_reported_with_epoch_and_distance(quick_run: Run) -> None:
    """The first epoch that differs, and the distance of the weights; invariance fails."""
    first = quick_run.trainings[0]
    assert first.weights is not None
    bias = first.weights["layer2.bias"]
    pattern = int.from_bytes(bytes.fromhex(bias.hex), "little") + 3
    moved = msgspec.structs.replace(bias, hex=pattern.to_bytes(4, "little").hex())
    run = with_engine(
        quick_run,
        "tensor",
        epoch_digests=[*first.epoch_digests[:7], *("0" * 64 for _ in first.epoch_digests[7:])],
        weights={**first.weights, "layer2.bias": moved},
    )
    gain = gains(Evidence(run))[1]
    assert (identity_text(gain), gain.ulps) == ("diverge at epoch 7", 3)
    assert "invariance" in failing(run)


def test_a_compiler_may_round_differently(quick_run: Run) -> None:
    """Different bits of the compile engine are reported, and do not fail."""
    run = with_engine(
        quick_run, "compile", epoch_digests=["0" * 64 for _ in quick_run.trainings[0].epoch_digests]
    )
    assert identity_text(gains(Evidence(run))[1]) == "diverge at epoch 0"
    assert "invariance" not in failing(run)


def test_the_universal_engine_is_judged_by_its_own_golden_values(quick_run: Run) -> None:
    """The universal engine must have the golden digest; no bits are compared."""
    fact = Fact(what="digest", expected="a" * 64, actual="a" * 64)
    run = with_engine(quick_run, "universal", inputs_sha256="b" * 64, golden=[fact])
    assert not {"accuracy", "inputs", "universal"} & failing(run)
    assert identity_text(gains(Evidence(run))[1]) == "different training"
    wrong = msgspec.structs.replace(fact, actual="c" * 64)
    assert "universal" in failing(with_engine(quick_run, "universal", golden=[wrong]))


@pytest.mark.parametrize(
    ("actual", "says"),
    [
        ("a", "the device computes correctly (see universal)"),
        ("c", "the device may compute incorrectly"),
    ],
)
def test_the_universal_engine_must_learn_every_point_too(
    actual: str, says: str, quick_run: Run
) -> None:
    """A golden digest with 499 correct points passes universal and fails accuracy."""
    fact = Fact(what="digest", expected="a" * 64, actual=actual * 64)
    run = with_engine(
        quick_run, "universal", test=Count(correct=499, total=500), golden=[fact],
        losses=[None for _ in quick_run.trainings[0].losses],
    )  # fmt: skip
    (verdict,) = [v for v in judge(Evidence(run)) if v.check == "accuracy" and v.outcome == "fail"]
    assert verdict.actual == "499/500"
    assert says in verdict.hint
    assert "--epochs 400, or different --seeds" in verdict.hint


@pytest.mark.parametrize(
    ("extra_s", "ratio", "epochs"),
    [(1.0, 2.0, 10), (1.0, 0.5, None), (-0.1, 2.0, 0), (0.0, 0.9, None)],
)
def test_a_start_up_pays_by_faster_epochs(extra_s: float, ratio: float, epochs: int | None) -> None:
    """The start-up is recovered by faster epochs, never by a slower engine."""
    assert pays_after(extra_s, 0.1, ratio) == epochs


@pytest.mark.parametrize(
    ("a", "b", "ulps"),
    [(1.0, 1.0 + 2**-23, 1), (0.0, -0.0, 0), (2**-149, -(2**-149), 2), (1.0, -1.0, 2 * 0x3F800000)],
)
def test_a_distance_in_ulps_counts_the_numbers_between(a: float, b: float, ulps: int) -> None:
    """The distance in ulps counts the numbers between, also across zero."""
    one, other = (
        {"w": WeightRecord(dtype="float32", shape=[1], hex=np.array([x], "<f4").tobytes().hex())}
        for x in (a, b)
    )
    assert largest_ulps(one, other) == ulps


def test_one_training_is_not_called_the_same(quick_run: Run) -> None:
    """With one training the second question is not judged."""
    evidence = Evidence(quick_run)
    others = [v for v in judge(evidence) if v.check not in ("rerun", "invariance")]
    same = answers(evidence, others)[1]
    assert (same.outcome, same.word) == ("skipped", "Not judged")
    assert "nothing to compare with" in same.sentence
