"""Comparing runs: doctored records for the rules, the real program for what it prints."""

import json
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from conftest import Xorbench

from xorbench.cli import main
from xorbench.errors import BadFile, BadOption
from xorbench.machine import kernels
from xorbench.machine import quiet as system_samples
from xorbench.records import baselines, loading
from xorbench.records.schema.run import Run
from xorbench.records.schema.system import SystemSample
from xorbench.records.schema.training import (
    CalibrationLine,
    EpochLine,
    Skip,
    TrainingEnd,
    TrainingRecord,
)
from xorbench.stats.intervals import holm, pool, shift
from xorbench.stats.ratio import Ratio, ratio_verdict
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.setting_costs import Cost, by_setting
from xorbench.xor.compare.baseline import WithBaseline
from xorbench.xor.compare.by_axis import AxisComparison, by_axis, by_verdicts
from xorbench.xor.compare.changes import other_changes
from xorbench.xor.compare.compare import with_baseline
from xorbench.xor.compare.comparison import Comparison, compare
from xorbench.xor.compare.comparison import verdicts as compare_verdicts
from xorbench.xor.compare.comparison import verdicts as for_ci
from xorbench.xor.matrix.axes import AXES
from xorbench.xor.matrix.case import Case, ProcessConfig
from xorbench.xor.matrix.engines import CALIBRATIONS_A_ROUND, calibration_key
from xorbench.xor.matrix.recipe import Recipe
from xorbench.xor.report.compare import as_text, next_step, sentence
from xorbench.xor.report.summary import answers
from xorbench.xor.report.tables.speed import throughput

ONE = "cpu-loader-b128-pin0-drop1-w0-s0"


@pytest.fixture(scope="module")
def run(quick_run: Run) -> Run:
    """A real run: two cases in two processes."""
    return quick_run


def steady(run: Run, *, seed: int = 0, **factors: float) -> Run:
    """The run with quiet times: calibration 2.5 ms, an epoch 7 ms, each process within 0.05%.

    `machine` multiplies everything, `code` every epoch, `one` the epochs of one case.
    """
    draw = random.Random(seed)
    machine = factors.get("machine", 1.0)

    def timed(training: TrainingRecord) -> TrainingRecord:
        slower = factors.get("code", 1.0) * machine
        slower *= factors.get("one", 1.0) if training.case.id == ONE else 1.0
        luck = math.exp(draw.gauss(0, 0.0005))
        epochs = len(training.epoch_digests)
        return msgspec.structs.replace(
            training,
            epoch_s=[7e-3 * slower * luck] * epochs,
            calibration_s=[2.5e-3 * machine] * epochs,
        )

    return msgspec.structs.replace(run, trainings=[timed(t) for t in run.trainings])


def with_machine(run: Run, **facts: object) -> Run:
    """The run as if its processes had found these facts of their machine."""
    processes = [
        msgspec.structs.replace(w, machine={**w.machine, **facts}) for w in run.info.processes
    ]
    return msgspec.structs.replace(run, info=msgspec.structs.replace(run.info, processes=processes))


def verdicts(found: Comparison) -> dict[str, str]:
    """Verdict by variant or device."""
    return {row.subject: row.verdict for row in (*found.variants, *found.machine)}


def test_the_same_code_on_the_same_machine_passes(run: Run) -> None:
    """Two runs of equal times are the same, in every case and on the machine."""
    found = compare(steady(run), steady(run, seed=1))
    assert found.outcome == "pass"
    assert set(verdicts(found).values()) == {"same"}


def test_one_slower_case_fails_alone(run: Run) -> None:
    """A delay in one case shows on that case and nowhere else."""
    found = compare(steady(run), steady(run, seed=1, one=1.1))
    slower = [name for name, verdict in verdicts(found).items() if verdict != "same"]
    assert (found.outcome, slower) == ("fail", [ONE])


def test_one_faster_case_passes(run: Run) -> None:
    """Faster is no failure."""
    found = compare(steady(run), steady(run, seed=1, one=0.8))
    assert (found.outcome, verdicts(found)[ONE]) == ("pass", "faster")


def test_a_slow_machine_shows_on_the_machine_alone(run: Run) -> None:
    """A delay in training and calibration workload alike shows on the machine's line only.

    Some of so large a shift may come through, so that the cases may be undecided at 5%.
    """
    found = compare(steady(run), steady(run, seed=1, machine=1.8))
    moved = {name: v for name, v in verdicts(found).items() if v in ("slower", "faster")}
    assert (found.outcome, moved) == ("fail", {"cpu, loader calibration workload": "slower"})
    # what was seen of a real run so slowed is no speed of its code
    real = compare(steady(run), steady(run, seed=1, machine=2.0, code=0.945))
    assert {row.verdict for row in real.variants} == {"inconclusive"}


def test_a_machine_whose_interval_is_wide_is_never_a_pass(run: Run) -> None:
    """A ratio of 1.000 with an interval beyond the threshold is inconclusive, and so is the whole.

    Epochs scatter as their calibration workloads do, so that the cases themselves are the same.
    """

    def scattered(training: TrainingRecord) -> TrainingRecord:
        luck = 1.1 if training.process == "p1" else 0.9
        seconds = [s * luck for s in training.epoch_s]
        beside = [luck * (s or 0) for s in training.calibration_s]
        return msgspec.structs.replace(training, epoch_s=seconds, calibration_s=beside)

    def scatter(run: Run) -> Run:
        return msgspec.structs.replace(run, trainings=[scattered(t) for t in run.trainings])

    found = compare(scatter(steady(run)), scatter(steady(run, seed=1)))
    assert {row.verdict for row in found.variants} == {"same"}
    assert (found.outcome, found.machine[0].verdict) == ("inconclusive", "inconclusive")
    assert (
        sentence(found)
        == "INCONCLUSIVE: 2 same; the machine: cpu, loader calibration workload inconclusive"
    )


def test_a_mild_shift_of_the_machine_is_mentioned(run: Run) -> None:
    """Within its threshold, a slower machine passes with a word."""
    found = compare(steady(run), steady(run, seed=1, machine=1.2))
    assert found.outcome == "pass"
    assert "slower now" in found.machine[0].note


def test_a_shift_within_the_threshold_is_the_same(run: Run) -> None:
    """Three per cent are the same at 5%, and slower at 2%."""
    before, after = steady(run), steady(run, seed=1, one=1.03)
    assert verdicts(compare(before, after))[ONE] == "same"
    assert verdicts(compare(before, after, threshold=0.02))[ONE] == "slower"


def test_one_process_is_inconclusive(run: Run) -> None:
    """A run of one process shows no interval and decides nothing."""
    alone = msgspec.structs.replace(run, trainings=[t for t in run.trainings if t.process == "p0"])
    found = compare(steady(alone), steady(alone, one=1.5))
    assert found.outcome == "inconclusive"
    assert all(row.low is None for row in found.variants)


def test_another_torch_is_judged_by_raw_times(run: Run) -> None:
    """Where the software differs the figures are raw, are said to be, and --pythons is named."""
    found = compare(steady(run), with_machine(steady(run, seed=1), torch_version="2.6.0"))
    assert (found.figures, found.machine) == ("raw", [])
    assert {row.p for row in found.variants} == {None}
    assert any("--pythons" in note for note in found.notes)
    assert [c.b for c in found.changes if c.what == "torch_version"] == ["2.6.0"]


def test_nothing_in_common_is_never_a_pass(run: Run) -> None:
    """Another recipe leaves nothing to compare, which is inconclusive."""
    info = msgspec.structs.replace(run.info, recipe_sha256="0" * 64)
    found = compare(run, msgspec.structs.replace(run, info=info))
    assert (found.outcome, found.variants) == ("inconclusive", [])
    assert "recipes differ" in found.notes[0]


def test_what_differs_in_the_recipe_is_named(run: Run) -> None:
    """Each field with both values."""

    def of(epochs: int) -> Run:
        recipe = Recipe(epochs=epochs)
        info = msgspec.structs.replace(run.info, recipe=recipe, recipe_sha256=recipe.sha256())
        return msgspec.structs.replace(run, info=info)

    found = compare(of(40), of(100))
    assert found.notes[0] == "nothing to compare: recipes differ: epochs 40 (A), 100 (B)"


def test_a_case_that_was_lost_is_never_a_pass(run: Run) -> None:
    """B set out to train a case that A has, and did not finish it: inconclusive, and said."""
    before, after = steady(run), steady(run, seed=1)
    left = [t for t in after.trainings if t.case.id != ONE]
    found = compare(before, msgspec.structs.replace(after, trainings=left))
    assert (found.outcome, [row.verdict for row in found.variants]) == ("inconclusive", ["same"])
    assert found.lost == [ONE]
    assert sentence(found).startswith(f"INCONCLUSIVE: lost by B: {ONE}; 1 same")
    unasked = msgspec.structs.replace(
        after.info, cases=[case for case in after.info.cases if case.id != ONE]
    )
    chosen = msgspec.structs.replace(after, trainings=left, info=unasked)
    assert compare(before, chosen).outcome == "pass"
    skip = Skip(case=next(t.case for t in after.trainings if t.case.id == ONE), skipped="no device")
    skipped = msgspec.structs.replace(after, trainings=left, skips=[skip])
    assert (compare(before, skipped).outcome, compare(before, skipped).only_a) == ("pass", [ONE])


def test_the_machine_is_measured_under_the_configs_in_common(run: Run) -> None:
    """What B also ran under two threads, ten times as slow, is no slower machine."""
    before, after = steady(run), steady(run, seed=1)
    two = ProcessConfig(threads=2)
    others = [
        msgspec.structs.replace(
            t, process="p9", config=two.id, calibration_s=[10 * (s or 0) for s in t.calibration_s]
        )
        for t in after.trainings
        if t.process == "p0"
    ]
    info = msgspec.structs.replace(after.info, configs=[*after.info.configs, two])
    both = msgspec.structs.replace(after, info=info, trainings=[*after.trainings, *others])
    found = compare(before, both)
    assert found.outcome == "pass"
    assert [row.subject for row in found.machine] == ["cpu, loader calibration workload"]


def test_a_machine_that_moved_leaves_wider_intervals(run: Run) -> None:
    """Some of what moves the calibration workload comes through: it is allowed for, and said."""

    def width(found: Comparison) -> float:
        low, high = found.variants[0].low, found.variants[0].high
        assert low is not None
        assert high is not None
        return math.log(high / low)

    still, moved = (compare(steady(run), steady(run, seed=1, machine=m)) for m in (1.0, 1.4))
    assert width(moved) > 1.5 * width(still)
    assert "allow for it" in moved.machine[0].note
    assert set(verdicts(moved).values()) == {"same"}


def test_other_calibrations_do_not_compare(run: Run) -> None:
    """Figures of two versions of the calibration workload are not compared."""
    info = msgspec.structs.replace(run.info, calibration_version=99)
    found = compare(run, msgspec.structs.replace(run, info=info))
    assert (found.outcome, found.variants) == ("inconclusive", [])


def test_other_bits_and_scores_are_told(run: Run) -> None:
    """Changed digests and scores stand beside the speeds, with the first epoch that differs."""
    first = run.trainings[0]
    odd = msgspec.structs.replace(
        first,
        epoch_digests=[*first.epoch_digests[:3], *["f" * 64] * (len(first.epoch_digests) - 3)],
        test=msgspec.structs.replace(first.test, correct=499),
    )
    others = [t for t in run.trainings if t.case != first.case]
    changes = compare(run, msgspec.structs.replace(run, trainings=[odd, *others])).changes
    told = {(change.what, change.where) for change in changes}
    name = first.case.id
    assert told >= {("bits", f"{name}, from epoch 3"), ("accuracy", name)}


def odd_from(run: Run, epoch: int) -> Run:
    """The run with other digests from this epoch on."""
    trainings = [
        msgspec.structs.replace(
            t,
            epoch_digests=[*t.epoch_digests[:epoch], *["f" * 64] * (len(t.epoch_digests) - epoch)],
        )
        for t in run.trainings
    ]
    return msgspec.structs.replace(run, trainings=trainings)


def test_other_bits_on_another_processor_are_explained(run: Run) -> None:
    """MKL's choice of kernels is named where bits and processors differ, and only there."""
    elsewhere = with_machine(run, cpu="Intel Xeon")
    assert kernels.HINT in compare(run, odd_from(elsewhere, 3)).notes
    assert kernels.HINT in compare(run, with_machine(odd_from(run, 3), cpu_capability="X")).notes
    assert kernels.HINT not in compare(run, odd_from(run, 3)).notes
    assert kernels.HINT not in compare(run, elsewhere).notes


def test_another_processor_is_a_change(run: Run) -> None:
    """It is told of the processes that trained, whose figures are compared all the same."""
    found = compare(run, with_machine(run, cpu="Intel Xeon"))
    assert "Intel Xeon" in {change.b for change in found.changes if change.what == "cpu"}
    assert found.figures == "relative"


def test_an_unset_variable_equals_one_that_an_older_version_did_not_record(run: Run) -> None:
    """Only a variable that is set differs."""
    older = with_machine(run, environment={})
    newer = with_machine(run, environment={"MKL_CBWR": None, "OMP_NUM_THREADS": "2"})
    changes = {change.what for change in other_changes(older, newer)}
    assert changes == {"environment.OMP_NUM_THREADS"}


def test_what_differs_is_told_in_the_order_of_the_plan(run: Run) -> None:
    """A set has another order in every process; the output has one."""
    configs = [ProcessConfig(threads=threads) for threads in range(1, 13)]
    first = run.info.processes[0]

    def under(libc: str) -> Run:
        machine = {**first.machine, "libc_version": libc}
        processes = [
            msgspec.structs.replace(first, id=f"w{i}", config=config, machine=machine)
            for i, config in enumerate(configs)
        ]
        info = msgspec.structs.replace(run.info, processes=processes, configs=configs)
        return msgspec.structs.replace(run, info=info)

    changes = compare(under("old"), under("new")).changes
    told = [change.where for change in changes if change.what == "libc_version"]
    assert told == [f"processes, {config.id}" for config in configs]


def test_a_injected_run_is_said_to_be_one(run: Run) -> None:
    """A run with injected faults does not pass for a clean one."""
    injected = msgspec.structs.replace(
        run, info=msgspec.structs.replace(run.info, faults=["delay:ms=1"])
    )
    assert "B has injected faults: delay:ms=1" in compare(run, injected).notes


def test_what_disturbed_a_run_is_said(run: Run) -> None:
    """Stress, contention and noise stand among the notes, each with its side."""
    info = msgspec.structs.replace(run.info, stress="cpu")
    quiet = msgspec.structs.replace(steady(run), system_samples=[])
    jittery = [
        msgspec.structs.replace(t, epoch_s=[s * (1 + i % 2) for i, s in enumerate(t.epoch_s)])
        for t in quiet.trainings
    ]
    upset = msgspec.structs.replace(
        quiet, info=info, trainings=jittery, system_samples=[sample(60.0)]
    )
    notes = compare(quiet, upset).notes
    assert any("B was put under stress (cpu)" in note for note in notes)
    assert any("B was contended: other programs" in note for note in notes)
    assert any("B is noisy in 2 of its 2 cases" in note for note in notes)
    assert not any(note.startswith("A ") for note in notes)


def test_an_open_ratio_of_a_disturbed_run_asks_for_a_quieter_machine(run: Run) -> None:
    """With 87% of the processors taken by other programs, more processes are not the advice."""
    quiet = msgspec.structs.replace(steady(run), system_samples=[])
    busy = msgspec.structs.replace(quiet, system_samples=[sample(87.0)])
    for sides, names in (((quiet, busy), "B"), ((busy, quiet), "A"), ((busy, busy), "A and B")):
        found = compare(*sides, threshold=1e-9)
        hints = [v.hint for v in compare_verdicts(found) if v.check == "compare"]
        assert len(hints) == len(found.variants)
        advice = f": run {names} again on a quieter machine"
        assert all(hint.endswith(f"contains the limit{advice}") for hint in hints)
    timed = [msgspec.structs.replace(run, system_samples=own.system_samples) for own in sides]
    found = compare(timed[0], timed[1], machine_threshold=1 + 1e-9)
    assert [row.note.partition(": ")[2] for row in found.machine] == [
        "run A and B again on a quieter machine"
    ]
    settled = compare(quiet, quiet, threshold=1e-9)
    assert all("--processes" in v.hint for v in compare_verdicts(settled) if v.hint)


def test_holm_multiplies_by_what_is_left() -> None:
    """The smallest p counts for all, the next for all but one, and none sinks below another."""
    assert [p for p, _ in holm([0.04, 0.01, 0.03])] == pytest.approx([0.06, 0.03, 0.06])


def test_an_interval_agrees_with_its_p() -> None:
    """From the first p that is kept on, every interval is drawn at that one's alpha."""
    assert [alpha for _, alpha in holm([0.02] * 3)] == pytest.approx([0.05 / 3] * 3)
    assert [alpha for _, alpha in holm([0.01, 0.04, 0.03])] == pytest.approx(
        [0.05 / 3, 0.025, 0.025]
    )


def test_a_shift_is_as_sure_as_both_its_sides() -> None:
    """Variance adds up; Welch's degrees lie between the smaller side's and the sum."""
    sides = pool({"x": [0.0, 0.02]}), pool({"x": [0.1, 0.12]})
    moved = shift(*sides, "x")
    assert moved.log == pytest.approx(0.1)
    assert moved.variance == pytest.approx(0.0002)
    assert moved.dof == pytest.approx(2.0)


def along(name: str, run: Run, **options: Any) -> AxisComparison:
    """The run judged along one axis."""
    return by_axis(run, next(axis for axis in AXES if axis.name == name), **options)


def beside(run: Run, *, pinned: Run | None = None, two_threads: Run | None = None) -> Run:
    """The run as if it had trained `ONE` with these observations under another value as well."""
    trainings, cases = [*run.trainings], [*run.info.cases]
    configs, processes = [*run.info.configs], [*run.info.processes]
    if pinned:
        of_one = [t for t in pinned.trainings if t.case.id == ONE]
        more = [msgspec.structs.replace(t, case=replace(t.case, pin_memory=True)) for t in of_one]
        trainings, cases = [*trainings, *more], [*cases, more[0].case]
    if two_threads:
        two, names = ProcessConfig(threads=2), {"p0": "p2", "p1": "p3"}
        processes += [
            msgspec.structs.replace(w, id=names[w.id], config=two) for w in run.info.processes
        ]
        trainings += [
            msgspec.structs.replace(t, process=names[t.process], config=two.id)
            for t in two_threads.trainings
        ]
        configs.append(two)
    info = msgspec.structs.replace(run.info, cases=cases, configs=configs, processes=processes)
    return msgspec.structs.replace(run, info=info, trainings=trainings)


def test_pairs_of_one_axis_give_its_cost(run: Run) -> None:
    """Along drop_last, the one axis of this run, each pair's ratio is of raw times by round."""
    slow = steady(run, one=1.1)
    (pair,) = along("drop_last", slow).pairs
    (row,) = by_setting(Evidence(slow))
    assert pair.speed.ratio == pytest.approx(1.1, rel=0.01)
    assert (row.setting, row.pairs) == ("drop_last", 1)
    assert row.ratio.ratio == pytest.approx(pair.speed.ratio)


def test_a_slower_value_of_an_axis_fails(run: Run) -> None:
    """By the rule and the threshold of two runs: 3 per cent are the same at 5%, slower at 2%."""
    slow = along("drop_last", steady(run, one=1.1))
    assert (slow.outcome, slow.pairs[0].speed.verdict) == ("fail", "slower")
    assert sentence(slow) == f"FAIL: slower: {ONE}; bits diverge in 1 of 1"
    mild = steady(run, one=1.03)
    assert along("drop_last", mild).outcome == "pass"
    assert along("drop_last", mild, threshold=0.02).outcome == "fail"
    assert along("drop_last", steady(run, one=0.8)).outcome == "pass"


def test_an_axis_of_one_process_is_inconclusive(run: Run) -> None:
    """One process has no interval and decides nothing."""
    alone = msgspec.structs.replace(run, trainings=[t for t in run.trainings if t.process == "p0"])
    found = along("drop_last", steady(alone))
    assert (found.outcome, found.pairs[0].speed.low) == ("inconclusive", None)


def test_bits_that_an_axis_must_keep_are_judged(run: Run) -> None:
    """Pinned memory must keep them: another digest fails, and is told from its epoch on."""
    kept = along("pin_memory", beside(steady(run), pinned=steady(run, seed=1)))
    assert (kept.outcome, kept.pairs[0].diverged_epoch) == ("pass", None)
    assert sentence(kept) == "PASS: 1 same; bits equal"
    changed = along("pin_memory", beside(steady(run), pinned=odd_from(steady(run, seed=1), 3)))
    assert (changed.outcome, changed.pairs[0].diverged_epoch) == ("fail", 3)
    assert sentence(changed).endswith("diverge at epoch 3, must keep")
    assert "diverge at epoch 3" in as_text(changed)


def test_bits_that_an_axis_must_change_are_judged(run: Run) -> None:
    """A drop_last that changes nothing fails."""
    same = msgspec.structs.replace(
        run,
        trainings=[
            msgspec.structs.replace(t, epoch_digests=run.trainings[0].epoch_digests)
            for t in steady(run).trainings
        ],
    )
    found = along("drop_last", same)
    assert (found.outcome, found.pairs[0].broken) == ("fail", True)
    assert sentence(found).endswith("equal, must change")


def test_bits_that_may_change_are_shown_and_not_judged(run: Run) -> None:
    """Another number of threads may add in another order."""
    two = odd_from(steady(run, seed=1), 0)
    found = along("threads", beside(steady(run), two_threads=two))
    assert [(pair.diverged_epoch, pair.bits) for pair in found.pairs] == [(0, "may change")] * 2
    assert sentence(found) == "PASS: 2 same; bits diverge in 2 of 2"


def test_one_repeat_that_diverges_is_seen(run: Run) -> None:
    """The second process counts as the first does."""
    pinned = steady(run, seed=1)
    odd = {t.process: t for t in odd_from(pinned, 5).trainings if t.case.id == ONE}["p1"]
    mixed = [odd if (t.case.id, t.process) == (ONE, "p1") else t for t in pinned.trainings]
    whole = beside(steady(run), pinned=msgspec.structs.replace(pinned, trainings=mixed))
    assert along("pin_memory", whole).pairs[0].diverged_epoch == 5


def test_a_case_without_a_time_is_not_called_lost(run: Run) -> None:
    """Both trained it to the end, but B has no calibration time beside it: no pass, and said."""
    before, after = steady(run), steady(run, seed=1)
    trainings = [
        msgspec.structs.replace(t, calibration_s=[None for _ in t.calibration_s])
        if t.case.id == ONE
        else t
        for t in after.trainings
    ]
    found = compare(before, msgspec.structs.replace(after, trainings=trainings))
    assert (found.outcome, found.lost, found.untimed) == ("inconclusive", [], [ONE])
    assert sentence(found).startswith(f"INCONCLUSIVE: no time can be believed: {ONE}; 1 same")
    (said,) = [v for v in for_ci(found) if v.subject == ONE]
    assert (said.outcome, said.actual) == ("inconclusive", "none")


def test_a_hint_speaks_of_what_was_compared(run: Run) -> None:
    """A slower machine is not searched for in the code, and one run is not called two."""
    slow = compare(steady(run), steady(run, seed=1, machine=3.0))
    (said,) = [v for v in for_ci(slow) if v.check == "machine"]
    assert (said.outcome, "the machine takes longer" in said.hint) == ("fail", True)
    whole = beside(steady(run), two_threads=steady(run, seed=1, one=1.5))
    hints = [v.hint for v in by_verdicts(along("threads", whole)) if v.outcome == "fail"]
    assert hints == ["find what threads 2 does that 1 does not"]


def test_a_value_that_was_lost_is_never_a_pass(run: Run) -> None:
    """What the run set out to train and did not finish is named."""
    whole = beside(steady(run), two_threads=steady(run, seed=1))
    left = [t for t in whole.trainings if (t.case.id, t.config) != (ONE, "threads=2")]
    found = along("threads", msgspec.structs.replace(whole, trainings=left))
    assert (found.outcome, found.lost) == ("inconclusive", [f"{ONE}@threads=2"])
    assert sentence(found).startswith(f"INCONCLUSIVE: lost: {ONE}@threads=2; 1 same")


def test_variables_have_the_order_in_which_they_were_given(run: Run) -> None:
    """As interpreters have: the first that was named is the one to compare with."""
    cells = [ProcessConfig(env=(f"X={value}",)) for value in ("b", "a")]
    info = msgspec.structs.replace(run.info, configs=cells, cases=[Case()])
    first, other = Evidence(msgspec.structs.replace(run, info=info)).planned
    found = along("env", msgspec.structs.replace(run, info=info, trainings=[]))
    assert (first.config, found.lost) == (cells[0], [other.id])


def test_the_cost_of_a_config_is_as_sure_as_its_own_pairs(run: Run) -> None:
    """Another axis, whose pairs scatter ten times as far, leaves its interval as it is."""
    wild = [
        msgspec.structs.replace(
            t,
            case=replace(t.case, seed=1),
            epoch_s=[s * (1.1 if t.process == "p0" else 1.0) for s in t.epoch_s],
        )
        for t in steady(run).trainings
        if t.case.id == ONE
    ]
    info = msgspec.structs.replace(run.info, cases=[*run.info.cases, wild[0].case])
    both = msgspec.structs.replace(
        steady(run), info=info, trainings=[*steady(run).trainings, *wild]
    )

    def own(run: Run) -> Cost:
        return next(c for c in by_setting(Evidence(run)) if c.setting == "drop_last")

    assert own(both).ratio == own(steady(run)).ratio
    seed = next(c for c in by_setting(Evidence(both)) if c.setting == "seed")
    assert seed.ratio.high is not None
    assert seed.ratio.high > 1.5


def sample(others: float | None = 0.0, steal: float = 0.0) -> SystemSample:
    """One look at the machine."""
    return SystemSample(at_s=1.0, load_average_1min=1.0, others_percent=others, steal_percent=steal)


def test_a_quiet_machine_is_not_flagged() -> None:
    """No trouble, no flag; an unknown share of others is no trouble."""
    assert system_samples.trouble([sample(None), sample(1.0)]) == []


def test_other_programs_and_stolen_time_are_flagged() -> None:
    """A busy second of others, or a little steal all the time, is contention."""
    found = system_samples.trouble([sample(0.0, 2.0), sample(60.0, 2.0)])
    assert ["other programs" in found[0], "hypervisor" in found[1]] == [True, True]


def renamed(source: Path, target: Path) -> Path:
    """A copy of a run's folder as if it were another run: each line names the run it is of."""
    shutil.copytree(source, target)
    for file in (target / "run.json", *target.glob("*.jsonl")):
        file.write_text(file.read_text().replace(source.name, "another"))
    return target


def test_the_program_judges_saves_and_names(
    xorbench: Xorbench, inside: Xorbench, quick_folder: Path, tmp_path: Path
) -> None:
    """A run equals another of its times, by a saved baseline too; formats and exit code agree."""
    out, run = str(tmp_path / "results"), (quick_folder / "latest").resolve()
    other = str(renamed(run, tmp_path / "other"))
    saved = inside("baseline", "save", "quiet", str(run), "--out", out)
    again = inside("baseline", "save", "quiet", str(run), "--out", out)
    shown = xorbench("compare", other, "--baseline", "quiet", "--out", out, "--json")
    found = json.loads(shown.stdout)
    assert (saved.returncode, again.returncode) == (0, 2)
    assert {row["ratio"] for row in found["variants"]} == {1.0}
    codes = {"pass": 0, "fail": 1, "inconclusive": 3}
    assert shown.returncode == codes[found["outcome"]]
    page, cases = tmp_path / "compare.md", tmp_path / "compare.xml"
    for_ci = ("--markdown", str(page), "--junit", str(cases))
    inside("compare", str(run), other, *for_ci)
    assert "| case" in page.read_text()
    root = ElementTree.parse(cases).getroot()
    assert root.attrib["tests"] == str(len(found["variants"]) + len(found["machine"]))


def test_the_program_judges_along_an_axis(
    quick_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Text ends with the answer; JSON and Markdown carry verdict and bits; all exit alike."""
    codes = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}

    def said(*form: str) -> tuple[object, str]:
        words = ["compare", str(quick_folder / "latest"), "--by", "drop-last", *form]
        monkeypatch.setattr("sys.argv", ["xorbench", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().out

    code, text = said("--markdown", str(tmp_path / "by.md"))
    lines = [line for line in text.splitlines() if not line.startswith("next: ")]
    assert codes[lines[-1].partition(":")[0]] == code
    text = (tmp_path / "by.md").read_text()
    assert codes[text.strip().splitlines()[-1].partition(":")[0]] == code
    assert "diverge at epoch 0" in text
    code, text = said("--json")
    found = json.loads(text)
    assert codes[found["outcome"].upper()] == code
    assert (found["pairs"][0]["diverged_epoch"], found["threshold"]) == (0, 0.05)


@pytest.mark.parametrize("way", ["itself", "a copy", "a baseline", "an export"])
def test_a_run_is_not_compared_with_itself(
    quick_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    way: str,
) -> None:
    """It would pass whatever it holds: one line, exit code 2."""
    out, run = tmp_path / "results", (quick_folder / "latest").resolve()

    def call(*words: str) -> tuple[object, str]:
        monkeypatch.setattr("sys.argv", ["xorbench", *words, "--out", str(out)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    if way == "a copy":
        shutil.copytree(run, tmp_path / "copy")
        code, message = call("compare", str(run), str(tmp_path / "copy"))
    elif way == "a baseline":
        call("baseline", "save", "kept", str(run))
        code, message = call("compare", str(run), "--baseline", "kept")
    elif way == "an export":
        call("pytest-benchmark", "export", str(run), str(tmp_path / "it.json"))
        call("pytest-benchmark", "import", str(tmp_path / "it.json"), "--name", "brought")
        code, message = call("compare", str(run), "brought")
    else:
        code, message = call("compare", str(run), str(run))
    lines = message.splitlines()
    assert (code, len(lines)) == (2, 2)
    assert lines[0] == f"xorbench: compare: A and B are the same run {run.name}"
    assert "run again" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("latest",), "compare: 1 runs"),
        ((), "compare: 0 runs"),
        (("latest", "latest", "--baseline", "x"), "compare: 2 runs"),
        (("latest", "--baseline", "none"), "no baseline 'none'"),
        (("latest", "latest", "--threshold", "5"), "between 0 and 1"),
        (("latest", "latest", "--threshold", "x%"), "finite number"),
        (("latest", "latest", "--machine-threshold", "0.5"), "from 1"),
        (("latest", "nowhere"), "nowhere"),
        (("latest", "--by", "colour"), "unknown setting"),
        (("latest", "--by", "seed"), "no two cases"),
        (("latest", "--by", "drop_last", "--machine-threshold", "2"), "--machine-threshold"),
        (("latest", "latest", "--markdown", "/proc/none"), "--markdown: cannot write"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    quick_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    told: str,
) -> None:
    """Each mistake names the option, and exits 2."""
    monkeypatch.setattr("sys.argv", ["xorbench", "compare", *arguments, "--out", str(quick_folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    message = capsys.readouterr().err
    assert (ended.value.code, message.count("xorbench:"), told in message) == (2, 1, True)


@pytest.mark.parametrize(
    ("flaw", "told"),
    [({"faults": ["delay:ms=1"]}, "injected faults"), ({"stress": "cpu"}, "stress")],
)
def test_a_injected_run_is_no_baseline(
    quick_run: Run, copied: Path, tmp_path: Path, flaw: dict[str, Any], told: str
) -> None:
    """Only a finished, clean run may be kept to compare with, and nothing is left of another."""
    info = msgspec.structs.replace(quick_run.info, **flaw)
    (copied / "run.json").write_bytes(msgspec.json.encode(info))
    with pytest.raises(BadFile, match=told):
        baselines.save(tmp_path / "results", "odd", copied, replace=False)
    assert not (tmp_path / "results" / "baselines").exists()


def test_a_baseline_is_replaced_whole(copied: Path, tmp_path: Path) -> None:
    """With --replace the new run stands where the old one stood, and reads back as it was."""
    root = tmp_path / "results"
    baselines.save(root, "quiet", copied, replace=False)
    baselines.save(root, "quiet", copied, replace=True)
    kept, run = loading.load(baselines.find(root, "quiet")), loading.load(copied)
    assert (kept.trainings, kept.system_samples) == (run.trainings, run.system_samples)
    assert [path.name for path in (root / "baselines").iterdir()] == ["quiet"]


# A run and the baseline of its machine


BEFORE = "2026-11-20T08:00:00Z"


def identified(run: Run, run_id: str, **facts: Any) -> Run:
    """The run under another id, and with these facts."""
    info = msgspec.structs.replace(run.info, id=run_id, finished=BEFORE, **facts)
    return msgspec.structs.replace(run, info=info)


def keep(root: Path, name: str, run: Run) -> None:
    """Write a run down as a baseline: its trainings, their epochs, and the calibrations before."""
    folder = root / "baselines" / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(msgspec.json.encode(run.info))
    observed = [observed_in(one, 1e3 * at) for at, one in enumerate(run.trainings)]
    ends = [
        TrainingEnd(**{name: getattr(one, name) for name in TrainingEnd.__struct_fields__})
        for one in run.trainings
    ]
    for file, lines in (
        ("epochs.jsonl", [epoch for epochs, _ in observed for epoch in epochs]),
        ("calibrations.jsonl", [line for _, calibrations in observed for line in calibrations]),
        ("results.jsonl", [*ends, *run.skips]),
    ):
        mine = [msgspec.structs.replace(line, run=run.info.id) for line in lines]
        (folder / file).write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in mine))


def observed_in(
    training: TrainingRecord, begun_s: float
) -> tuple[list[EpochLine], list[CalibrationLine]]:
    """The epochs of a training, one a second, and the calibrations at the end of each."""
    process, (device, kind) = training.process, calibration_key(training.case)
    epochs, calibrations = [], []
    for epoch, epoch_s in enumerate(training.epoch_s):
        at_s, calibration_s = begun_s + epoch, training.calibration_s[epoch]
        epochs.append(
            EpochLine(
                process=process, case=training.case.id, epoch=epoch, epoch_s=epoch_s,
                loss=training.losses[epoch], digest=training.epoch_digests[epoch],
                clock_s=at_s, waited_s=epoch_s, at_s=at_s,
            )
        )  # fmt: skip
        assert calibration_s is not None
        calibrations += CALIBRATIONS_A_ROUND * [
            CalibrationLine(
                process=process, device=device, kind=kind, calibration_s=calibration_s,
                waited_s=calibration_s, at_s=at_s,
            )
        ]  # fmt: skip
    return epochs, calibrations


def baseline_of(root: Path, run: Run) -> WithBaseline | None:
    """The comparison of a run that lies in this folder of all runs."""
    return with_baseline(root / "runs" / run.info.id, run)


@pytest.mark.parametrize(
    ("factors", "word"),
    [({}, "Yes"), ({"one": 0.8}, "Yes"), ({"one": 1.2}, "No"), ({"machine": 1.8}, "No")],
)
def test_speed_is_answered_by_the_baseline_as_compare_does(
    run: Run, tmp_path: Path, factors: dict[str, float], word: str
) -> None:
    """By name and date, with a ratio that `compare` gives; the exit code has none of it."""
    before = identified(steady(run), "before", started=BEFORE)
    after = identified(steady(run, seed=1, **factors), "after")
    keep(tmp_path, "quiet", before)
    found = baseline_of(tmp_path, after)
    assert found is not None
    expected = compare(before, after)
    said = answers(Evidence(after), [], found)[-1]
    ratios = [*expected.variants, *expected.machine]
    assert [*found.comparison.variants, *found.comparison.machine] == ratios
    assert (found.verdicts, said.word) == ([], word)
    assert "this machine's baseline quiet of 2026-11-20" in said.sentence
    assert any(row.times in said.sentence for row in ratios)


def test_an_open_speed_is_no_yes(run: Run, tmp_path: Path) -> None:
    """One process allows no interval."""
    keep(tmp_path, "quiet", identified(steady(run), "before", started=BEFORE))
    alone = [t for t in steady(run, seed=1).trainings if t.process == "p0"]
    after = msgspec.structs.replace(identified(run, "after"), trainings=alone)
    assert answers(Evidence(after), [], baseline_of(tmp_path, after))[-1].word == "Not settled"


def test_the_newest_baseline_of_this_machine_and_recipe_is_taken(run: Run, tmp_path: Path) -> None:
    """None of another machine, recipe or calibration, nor the run itself, nor what is damaged."""
    after, host = identified(steady(run), "after"), run.info.host
    others: dict[str, dict[str, Any]] = {
        "machine": {"host": {**host, "hostname": "another"}},
        "processor": {"host": {**host, "cpu": "another"}},
        "recipe": {"recipe_sha256": "0" * 64},
        "calibration": {"calibration_version": 99},
        "itself": {"run_id": "after"},
    }
    for name, facts in others.items():
        keep(
            tmp_path, name, identified(steady(run), **{"run_id": name, "started": "2027", **facts})
        )
    (tmp_path / "baselines" / "machine" / "results.jsonl").write_text("{}\n")
    (tmp_path / "baselines" / "damaged").mkdir()
    (tmp_path / "baselines" / "damaged" / "run.json").write_text("{")
    assert baseline_of(tmp_path, after) is None
    unnamed = {key: value for key, value in host.items() if key != "hostname"}
    keep(tmp_path, "anonymous", identified(steady(run), "x", started="2026-01", host=unnamed))
    keep(tmp_path, "older", identified(steady(run), "y", started="2025-01"))
    found = baseline_of(tmp_path, after)
    assert found is not None
    assert found.name == "anonymous"


def test_a_speed_under_stress_is_not_judged(run: Run, tmp_path: Path) -> None:
    """Nor is that of a run which was not finished."""
    keep(tmp_path, "quiet", identified(steady(run), "before", started=BEFORE))
    for facts in ({"stress": "cpu"}, {"finished": None}):
        info = msgspec.structs.replace(identified(run, "after").info, **facts)
        assert baseline_of(tmp_path, msgspec.structs.replace(run, info=info)) is None


def test_without_a_baseline_the_answer_says_how_to_save_one(run: Run) -> None:
    """If the run can be one."""
    said = [answers(Evidence(one), [])[-1] for one in (run, identified(run, "x", faults=["slow"]))]
    assert [one.word for one in said] == ["Not judged"] * 2
    assert ["baseline save" in one.sentence for one in said] == [True, False]


def test_a_baseline_that_was_asked_for_counts(run: Run, tmp_path: Path) -> None:
    """Slower fails as in `compare`; what has no case in common, or is gone, is no pass."""
    keep(tmp_path, "quiet", identified(steady(run), "before", started=BEFORE))
    slow = identified(steady(run, seed=1, one=1.2), "after", baseline="quiet")
    found = baseline_of(tmp_path, slow)
    assert found is not None
    assert [v.subject for v in found.verdicts if v.outcome == "fail"] == [ONE]
    other = baseline_of(tmp_path, identified(slow, "after", recipe_sha256="0" * 64))
    assert other is not None
    assert [v.outcome for v in other.verdicts] == ["inconclusive"]
    with pytest.raises(BadOption, match="--baseline: no baseline 'gone'"):
        baseline_of(tmp_path, identified(slow, "after", baseline="gone"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--baseline", "none"), "--baseline: no baseline 'none'"),
        (("--baseline", "quiet", "--stress", "cpu"), "--baseline: cannot be given with --stress"),
        (
            ("--baseline", "quiet", "--epochs", "3"),
            "--baseline: nothing to compare: recipes differ",
        ),
    ],
)
def test_a_baseline_that_cannot_judge_is_said_before_the_run(
    run: Run, inside: Xorbench, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    """One line, exit code 2, nothing written."""
    keep(tmp_path / "results", "quiet", identified(run, "before"))
    done = inside("run", "--quick", *options)
    assert (done.returncode, told in done.stderr.splitlines()[0]) == (2, True), done.stderr
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["baselines"]


def test_the_first_screen_gives_speeds_with_intervals_and_says_what_disturbed(run: Run) -> None:
    """The slowest and the fastest case as the table has them; a busy machine is named beside."""
    busy = [SystemSample(at_s=1.0, load_average_1min=2.0, others_percent=40.0, steal_percent=0.0)]
    noisy = msgspec.structs.replace(steady(run), system_samples=busy)
    said = answers(Evidence(noisy), [])[-1].sentence
    table = throughput(Evidence(steady(run))).sort_values("samples/s")
    for _, row in table.iloc[[0, -1]].iterrows():
        low, high = row["samples/s low"], row["samples/s high"]
        assert f"{row['samples/s']:,.0f} [{low:,.0f}, {high:,.0f}]" in said
    assert "not quiet: contended: other programs took 40%" in said


def test_one_process_gives_speeds_without_intervals(run: Run) -> None:
    """And says so."""
    alone = msgspec.structs.replace(run, trainings=[t for t in run.trainings if t.process == "p0"])
    assert "one process, so without intervals" in answers(Evidence(alone), [])[-1].sentence


def test_what_is_open_says_what_would_settle_it() -> None:
    """The interval that contains the limit, and more processes; no hint where all is well."""
    row = Ratio(
        subject="a", ratio=1.03, low=1.013, high=1.055, p=0.2, processes=2, verdict="inconclusive"
    )
    said = ratio_verdict("compare", row, 1.05)
    assert (said.outcome, said.hint) == (
        "inconclusive",
        "the interval 1.013 to 1.055 contains the limit: run both again with --processes 5",
    )
    quiet = ratio_verdict("compare", row, 1.05, advice="run B again on a quieter machine")
    assert quiet.hint.endswith("contains the limit: run B again on a quieter machine")
    slow = ratio_verdict("compare", msgspec.structs.replace(row, verdict="slower"), 1.05)
    sound = ratio_verdict("compare", msgspec.structs.replace(row, verdict="same"), 1.05)
    assert (slow.outcome, sound.outcome) == ("fail", "pass")
    assert next_step([sound]) == ""
    assert next_step([said, slow]).startswith("next: a: profile an epoch")
