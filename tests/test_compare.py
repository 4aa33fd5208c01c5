"""Comparing runs: edited records for the rules, the real program for the output."""

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
from xorbench.xor.compare.changes import remaining_changes
from xorbench.xor.compare.compare import with_baseline
from xorbench.xor.compare.comparison import Comparison, compare
from xorbench.xor.compare.comparison import verdicts as compare_verdicts
from xorbench.xor.compare.comparison import verdicts as for_ci
from xorbench.xor.matrix.axes import AXES
from xorbench.xor.matrix.case import Case, ProcessConfig
from xorbench.xor.matrix.engines import CALIBRATIONS_PER_ROUND, calibration_key
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
        factor = math.exp(draw.gauss(0, 0.0005))
        epochs = len(training.epoch_digests)
        return msgspec.structs.replace(
            training,
            epoch_s=[7e-3 * slower * factor] * epochs,
            calibration_s=[2.5e-3 * machine] * epochs,
        )

    return msgspec.structs.replace(run, trainings=[timed(t) for t in run.trainings])


def with_machine(run: Run, **facts: object) -> Run:
    """The run with these details of its processes' machine."""
    processes = [
        msgspec.structs.replace(w, machine={**w.machine, **facts}) for w in run.info.processes
    ]
    return msgspec.structs.replace(run, info=msgspec.structs.replace(run.info, processes=processes))


def verdicts(result: Comparison) -> dict[str, str]:
    """The verdict by variant or device."""
    return {row.subject: row.verdict for row in (*result.variants, *result.machine)}


def test_the_same_code_on_the_same_machine_passes(run: Run) -> None:
    """Two runs with equal times have the verdict `same`, in every case and on the machine."""
    result = compare(steady(run), steady(run, seed=1))
    assert result.outcome == "pass"
    assert set(verdicts(result).values()) == {"same"}


def test_only_the_slower_case_fails(run: Run) -> None:
    """A delay in one case makes only that case slower."""
    result = compare(steady(run), steady(run, seed=1, one=1.1))
    slower = [name for name, verdict in verdicts(result).items() if verdict != "same"]
    assert (result.outcome, slower) == ("fail", [ONE])


def test_one_faster_case_passes(run: Run) -> None:
    """A faster case is not a failure."""
    result = compare(steady(run), steady(run, seed=1, one=0.8))
    assert (result.outcome, verdicts(result)[ONE]) == ("pass", "faster")


def test_a_slow_machine_affects_only_the_machine(run: Run) -> None:
    """An equal delay in training and calibration workload affects only the machine's row.

    Some of so large a shift may come through, so that the cases may be undecided at 5%.
    """
    result = compare(steady(run), steady(run, seed=1, machine=1.8))
    moved = {name: v for name, v in verdicts(result).items() if v in ("slower", "faster")}
    assert (result.outcome, moved) == ("fail", {"cpu, loader calibration workload": "slower"})
    # what was seen of a real run so slowed is no speed of its code
    real = compare(steady(run), steady(run, seed=1, machine=2.0, code=0.945))
    assert {row.verdict for row in real.variants} == {"inconclusive"}


def test_a_machine_with_a_wide_interval_is_inconclusive(run: Run) -> None:
    """A ratio of 1.000 with an interval beyond the threshold is inconclusive, and so is the whole.

    Epochs scatter as their calibration workloads do, so that the cases themselves are the same.
    """

    def scattered(training: TrainingRecord) -> TrainingRecord:
        factor = 1.1 if training.process == "p1" else 0.9
        seconds = [s * factor for s in training.epoch_s]
        calibration_s = [factor * (s or 0) for s in training.calibration_s]
        return msgspec.structs.replace(training, epoch_s=seconds, calibration_s=calibration_s)

    def scatter(run: Run) -> Run:
        return msgspec.structs.replace(run, trainings=[scattered(t) for t in run.trainings])

    result = compare(scatter(steady(run)), scatter(steady(run, seed=1)))
    assert {row.verdict for row in result.variants} == {"same"}
    assert (result.outcome, result.machine[0].verdict) == ("inconclusive", "inconclusive")
    assert (
        sentence(result)
        == "INCONCLUSIVE: 2 same; the machine: cpu, loader calibration workload inconclusive"
    )


def test_a_mild_shift_of_the_machine_is_mentioned(run: Run) -> None:
    """Within its threshold, a slower machine passes with a note."""
    result = compare(steady(run), steady(run, seed=1, machine=1.2))
    assert result.outcome == "pass"
    assert "the machine is slower" in result.machine[0].note


def test_a_shift_within_the_threshold_is_the_same(run: Run) -> None:
    """A shift of 3% is `same` at a threshold of 5%, and `slower` at 2%."""
    before, after = steady(run), steady(run, seed=1, one=1.03)
    assert verdicts(compare(before, after))[ONE] == "same"
    assert verdicts(compare(before, after, threshold=0.02))[ONE] == "slower"


def test_one_process_is_inconclusive(run: Run) -> None:
    """A run with one process has no interval, so it is inconclusive."""
    one_process = msgspec.structs.replace(
        run, trainings=[t for t in run.trainings if t.process == "p0"]
    )
    result = compare(steady(one_process), steady(one_process, one=1.5))
    assert result.outcome == "inconclusive"
    assert all(row.low is None for row in result.variants)


def test_a_different_torch_is_judged_by_raw_times(run: Run) -> None:
    """With different software the figures are raw, which a note states, and --pythons is named."""
    result = compare(steady(run), with_machine(steady(run, seed=1), torch_version="2.6.0"))
    assert (result.figures, result.machine) == ("raw", [])
    assert {row.p for row in result.variants} == {None}
    assert any("--pythons" in note for note in result.notes)
    assert [c.b for c in result.changes if c.what == "torch_version"] == ["2.6.0"]


def test_nothing_in_common_is_inconclusive(run: Run) -> None:
    """Runs with different recipes are inconclusive."""
    info = msgspec.structs.replace(run.info, recipe_sha256="0" * 64)
    result = compare(run, msgspec.structs.replace(run, info=info))
    assert (result.outcome, result.variants) == ("inconclusive", [])
    assert "recipes differ" in result.notes[0]


def test_differing_recipe_fields_are_named(run: Run) -> None:
    """Each field with both values."""

    def of(epochs: int) -> Run:
        recipe = Recipe(epochs=epochs)
        info = msgspec.structs.replace(run.info, recipe=recipe, recipe_sha256=recipe.sha256())
        return msgspec.structs.replace(run, info=info)

    result = compare(of(40), of(100))
    assert result.notes[0] == "nothing to compare: recipes differ: epochs 40 (A), 100 (B)"


def test_an_unfinished_case_is_inconclusive(run: Run) -> None:
    """A case that A finished and B planned but did not finish is named, and inconclusive."""
    before, after = steady(run), steady(run, seed=1)
    left = [t for t in after.trainings if t.case.id != ONE]
    result = compare(before, msgspec.structs.replace(after, trainings=left))
    assert (result.outcome, [row.verdict for row in result.variants]) == ("inconclusive", ["same"])
    assert result.lost == [ONE]
    assert sentence(result).startswith(f"INCONCLUSIVE: not finished by B: {ONE}; 1 same")
    unasked = msgspec.structs.replace(
        after.info, cases=[case for case in after.info.cases if case.id != ONE]
    )
    chosen = msgspec.structs.replace(after, trainings=left, info=unasked)
    assert compare(before, chosen).outcome == "pass"
    skip = Skip(case=next(t.case for t in after.trainings if t.case.id == ONE), skipped="no device")
    skipped = msgspec.structs.replace(after, trainings=left, skips=[skip])
    assert (compare(before, skipped).outcome, compare(before, skipped).only_a) == ("pass", [ONE])


def test_the_machine_is_measured_under_the_configs_in_common(run: Run) -> None:
    """Runs of B under a further config do not make the machine slower."""
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
    result = compare(before, both)
    assert result.outcome == "pass"
    assert [row.subject for row in result.machine] == ["cpu, loader calibration workload"]


def test_a_machine_that_moved_leaves_wider_intervals(run: Run) -> None:
    """The intervals include a share of a shift of the calibration time, which is stated."""

    def width(result: Comparison) -> float:
        low, high = result.variants[0].low, result.variants[0].high
        assert low is not None
        assert high is not None
        return math.log(high / low)

    still, moved = (compare(steady(run), steady(run, seed=1, machine=m)) for m in (1.0, 1.4))
    assert width(moved) > 1.5 * width(still)
    assert "intervals include this" in moved.machine[0].note
    assert set(verdicts(moved).values()) == {"same"}


def test_calibration_versions_are_not_compared(run: Run) -> None:
    """Runs with different versions of the calibration workload are not compared."""
    info = msgspec.structs.replace(run.info, calibration_version=99)
    result = compare(run, msgspec.structs.replace(run, info=info))
    assert (result.outcome, result.variants) == ("inconclusive", [])


def test_different_bits_and_scores_are_reported(run: Run) -> None:
    """Changed digests and scores are reported, with the first epoch that differs."""
    first = run.trainings[0]
    different = msgspec.structs.replace(
        first,
        epoch_digests=[*first.epoch_digests[:3], *["f" * 64] * (len(first.epoch_digests) - 3)],
        test=msgspec.structs.replace(first.test, correct=499),
    )
    others = [t for t in run.trainings if t.case != first.case]
    changes = compare(run, msgspec.structs.replace(run, trainings=[different, *others])).changes
    reported = {(change.what, change.where) for change in changes}
    name = first.case.id
    assert reported >= {("bits", f"{name}, from epoch 3"), ("accuracy", name)}


def different_from(run: Run, epoch: int) -> Run:
    """The run with different digests from this epoch on."""
    trainings = [
        msgspec.structs.replace(
            t,
            epoch_digests=[*t.epoch_digests[:epoch], *["f" * 64] * (len(t.epoch_digests) - epoch)],
        )
        for t in run.trainings
    ]
    return msgspec.structs.replace(run, trainings=trainings)


def test_different_bits_on_a_different_processor_are_explained(run: Run) -> None:
    """MKL's choice of kernels is named only if bits and processors differ."""
    elsewhere = with_machine(run, cpu="Intel Xeon")
    assert kernels.HINT in compare(run, different_from(elsewhere, 3)).notes
    assert (
        kernels.HINT in compare(run, with_machine(different_from(run, 3), cpu_capability="X")).notes
    )
    assert kernels.HINT not in compare(run, different_from(run, 3)).notes
    assert kernels.HINT not in compare(run, elsewhere).notes


def test_a_different_processor_is_a_change(run: Run) -> None:
    """A different processor is reported, and the figures are compared anyway."""
    result = compare(run, with_machine(run, cpu="Intel Xeon"))
    assert "Intel Xeon" in {change.b for change in result.changes if change.what == "cpu"}
    assert result.figures == "relative"


def test_an_unset_variable_equals_one_that_an_older_version_did_not_record(run: Run) -> None:
    """Only a set variable differs."""
    older = with_machine(run, environment={})
    newer = with_machine(run, environment={"MKL_CBWR": None, "OMP_NUM_THREADS": "2"})
    changes = {change.what for change in remaining_changes(older, newer)}
    assert changes == {"environment.OMP_NUM_THREADS"}


def test_differences_are_in_the_order_of_the_plan(run: Run) -> None:
    """The output does not depend on the order of a set."""
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
    reported = [change.where for change in changes if change.what == "libc_version"]
    assert reported == [f"processes, {config.id}" for config in configs]


def test_an_injected_run_is_noted(run: Run) -> None:
    """A note names the injected faults of a run."""
    injected = msgspec.structs.replace(
        run, info=msgspec.structs.replace(run.info, faults=["delay:ms=1"])
    )
    assert "B has injected faults: delay:ms=1" in compare(run, injected).notes


def test_disturbances_of_a_run_are_noted(run: Run) -> None:
    """Load, contention and noise are in the notes, each with its side."""
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
    assert any("B ran under load (--stress cpu)" in note for note in notes)
    assert any("B was contended: other programs" in note for note in notes)
    assert any("B is noisy in 2 of its 2 cases" in note for note in notes)
    assert not any(note.startswith("A ") for note in notes)


def test_an_inconclusive_ratio_of_a_disturbed_run_asks_for_a_quieter_machine(run: Run) -> None:
    """With 87% of the processors used by other programs, the advice is a quieter machine."""
    quiet = msgspec.structs.replace(steady(run), system_samples=[])
    busy = msgspec.structs.replace(quiet, system_samples=[sample(87.0)])
    for sides, names in (((quiet, busy), "B"), ((busy, quiet), "A"), ((busy, busy), "A and B")):
        result = compare(*sides, threshold=1e-9)
        hints = [v.hint for v in compare_verdicts(result) if v.check == "compare"]
        assert len(hints) == len(result.variants)
        advice = f": rerun {names} on a quieter machine"
        assert all(hint.endswith(f"contains the limit{advice}") for hint in hints)
    timed = [msgspec.structs.replace(run, system_samples=own.system_samples) for own in sides]
    result = compare(timed[0], timed[1], machine_threshold=1 + 1e-9)
    assert [row.note.partition(": ")[2] for row in result.machine] == [
        "rerun A and B on a quieter machine"
    ]
    settled = compare(quiet, quiet, threshold=1e-9)
    assert all("--processes" in v.hint for v in compare_verdicts(settled) if v.hint)


def test_holm_multiplies_by_the_remaining_cases() -> None:
    """Each p is multiplied by the number of remaining cases, and the results are monotonic."""
    assert [p for p, _ in holm([0.04, 0.01, 0.03])] == pytest.approx([0.06, 0.03, 0.06])


def test_an_interval_agrees_with_its_p() -> None:
    """From the first retained p on, every interval has the alpha of that p."""
    assert [alpha for _, alpha in holm([0.02] * 3)] == pytest.approx([0.05 / 3] * 3)
    assert [alpha for _, alpha in holm([0.01, 0.04, 0.03])] == pytest.approx(
        [0.05 / 3, 0.025, 0.025]
    )


def test_a_shift_has_the_variance_of_both_sides() -> None:
    """Variances add up; Welch's degrees are between the smaller side's and the sum."""
    sides = pool({"x": [0.0, 0.02]}), pool({"x": [0.1, 0.12]})
    moved = shift(*sides, "x")
    assert moved.log == pytest.approx(0.1)
    assert moved.variance == pytest.approx(0.0002)
    assert moved.dof == pytest.approx(2.0)


def along(name: str, run: Run, **options: Any) -> AxisComparison:
    """The run judged along one axis."""
    return by_axis(run, next(axis for axis in AXES if axis.name == name), **options)


def with_second_value(
    run: Run, *, pinned: Run | None = None, two_threads: Run | None = None
) -> Run:
    """The run with these observations of `ONE` under a second value of a setting."""
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
    """The ratio of each pair along drop_last uses raw times, paired by round."""
    slow = steady(run, one=1.1)
    (pair,) = along("drop_last", slow).pairs
    (row,) = by_setting(Evidence(slow))
    assert pair.speed.ratio == pytest.approx(1.1, rel=0.01)
    assert (row.setting, row.pairs) == ("drop_last", 1)
    assert row.ratio.ratio == pytest.approx(pair.speed.ratio)


def test_a_slower_value_of_an_axis_fails(run: Run) -> None:
    """As for two runs, 3% is `same` at a threshold of 5%, and `slower` at 2%."""
    slow = along("drop_last", steady(run, one=1.1))
    assert (slow.outcome, slow.pairs[0].speed.verdict) == ("fail", "slower")
    assert sentence(slow) == f"FAIL: slower: {ONE}; bits diverge in 1 of 1"
    mild = steady(run, one=1.03)
    assert along("drop_last", mild).outcome == "pass"
    assert along("drop_last", mild, threshold=0.02).outcome == "fail"
    assert along("drop_last", steady(run, one=0.8)).outcome == "pass"


def test_an_axis_of_one_process_is_inconclusive(run: Run) -> None:
    """One process has no interval, so the axis is inconclusive."""
    one_process = msgspec.structs.replace(
        run, trainings=[t for t in run.trainings if t.process == "p0"]
    )
    result = along("drop_last", steady(one_process))
    assert (result.outcome, result.pairs[0].speed.low) == ("inconclusive", None)


def test_bits_that_an_axis_must_keep_are_judged(run: Run) -> None:
    """Pinned memory must keep the bits: a different digest fails, with its first epoch."""
    kept = along("pin_memory", with_second_value(steady(run), pinned=steady(run, seed=1)))
    assert (kept.outcome, kept.pairs[0].diverged_epoch) == ("pass", None)
    assert sentence(kept) == "PASS: 1 same; bits identical"
    changed = along(
        "pin_memory", with_second_value(steady(run), pinned=different_from(steady(run, seed=1), 3))
    )
    assert (changed.outcome, changed.pairs[0].diverged_epoch) == ("fail", 3)
    assert sentence(changed).endswith("diverge at epoch 3, must keep")
    assert "diverge at epoch 3" in as_text(changed)


def test_bits_that_an_axis_must_change_are_judged(run: Run) -> None:
    """A drop_last that changes no bits fails."""
    same = msgspec.structs.replace(
        run,
        trainings=[
            msgspec.structs.replace(t, epoch_digests=run.trainings[0].epoch_digests)
            for t in steady(run).trainings
        ],
    )
    result = along("drop_last", same)
    assert (result.outcome, result.pairs[0].broken) == ("fail", True)
    assert sentence(result).endswith("identical, must change")


def test_bits_that_may_change_are_shown_and_not_judged(run: Run) -> None:
    """A different number of threads may add in a different order."""
    two = different_from(steady(run, seed=1), 0)
    result = along("threads", with_second_value(steady(run), two_threads=two))
    assert [(pair.diverged_epoch, pair.bits) for pair in result.pairs] == [(0, "may change")] * 2
    assert sentence(result) == "PASS: 2 same; bits diverge in 2 of 2"


def test_one_repeat_that_diverges_is_seen(run: Run) -> None:
    """A divergence in the second process only is reported."""
    pinned = steady(run, seed=1)
    different = {t.process: t for t in different_from(pinned, 5).trainings if t.case.id == ONE}[
        "p1"
    ]
    mixed = [different if (t.case.id, t.process) == (ONE, "p1") else t for t in pinned.trainings]
    whole = with_second_value(steady(run), pinned=msgspec.structs.replace(pinned, trainings=mixed))
    assert along("pin_memory", whole).pairs[0].diverged_epoch == 5


def test_a_case_without_a_time_is_not_called_lost(run: Run) -> None:
    """A case without calibration times in B is inconclusive, and reported as untimed."""
    before, after = steady(run), steady(run, seed=1)
    trainings = [
        msgspec.structs.replace(t, calibration_s=[None for _ in t.calibration_s])
        if t.case.id == ONE
        else t
        for t in after.trainings
    ]
    result = compare(before, msgspec.structs.replace(after, trainings=trainings))
    assert (result.outcome, result.lost, result.untimed) == ("inconclusive", [], [ONE])
    assert sentence(result).startswith(f"INCONCLUSIVE: invalid times: {ONE}; 1 same")
    (verdict,) = [v for v in for_ci(result) if v.subject == ONE]
    assert (verdict.outcome, verdict.actual) == ("inconclusive", "none")


def test_a_hint_depends_on_the_comparison(run: Run) -> None:
    """Hints differ for the machine, for two runs and for one run."""
    slow = compare(steady(run), steady(run, seed=1, machine=3.0))
    (verdict,) = [v for v in for_ci(slow) if v.check == "machine"]
    assert (verdict.outcome, "slower on unchanged work" in verdict.hint) == ("fail", True)
    whole = with_second_value(steady(run), two_threads=steady(run, seed=1, one=1.5))
    hints = [v.hint for v in by_verdicts(along("threads", whole)) if v.outcome == "fail"]
    assert hints == ["find out why threads 2 is slower than 1"]


def test_an_unfinished_value_is_inconclusive(run: Run) -> None:
    """A planned case that did not finish is named."""
    whole = with_second_value(steady(run), two_threads=steady(run, seed=1))
    left = [t for t in whole.trainings if (t.case.id, t.config) != (ONE, "threads=2")]
    result = along("threads", msgspec.structs.replace(whole, trainings=left))
    assert (result.outcome, result.lost) == ("inconclusive", [f"{ONE}@threads=2"])
    assert sentence(result).startswith(f"INCONCLUSIVE: not finished: {ONE}@threads=2; 1 same")


def test_variables_have_the_order_in_which_they_were_given(run: Run) -> None:
    """The first named value is the reference, as for interpreters."""
    cells = [ProcessConfig(env=(f"X={value}",)) for value in ("b", "a")]
    info = msgspec.structs.replace(run.info, configs=cells, cases=[Case()])
    first, other = Evidence(msgspec.structs.replace(run, info=info)).planned
    result = along("env", msgspec.structs.replace(run, info=info, trainings=[]))
    assert (first.config, result.lost) == (cells[0], [other.id])


def test_the_interval_of_a_cost_uses_its_own_pairs(run: Run) -> None:
    """Pairs of a different axis with ten times the variance do not widen its interval."""
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
    """A quiet machine, or an unknown share of other programs, is not flagged."""
    assert system_samples.trouble([sample(None), sample(1.0)]) == []


def test_other_programs_and_stolen_time_are_flagged() -> None:
    """One busy second of other programs, or constant slight steal, is contention."""
    result = system_samples.trouble([sample(0.0, 2.0), sample(60.0, 2.0)])
    assert ["other programs" in result[0], "hypervisor" in result[1]] == [True, True]


def renamed(source: Path, target: Path) -> Path:
    """A copy of a run's folder under a different run id."""
    shutil.copytree(source, target)
    for file in (target / "run.json", *target.glob("*.jsonl")):
        file.write_text(file.read_text().replace(source.name, "another"))
    return target


def test_the_program_judges_saves_and_names(
    xorbench: Xorbench, inside: Xorbench, quick_folder: Path, tmp_path: Path
) -> None:
    """Equal runs pass, by a saved baseline, too; formats and exit code agree."""
    out, run = str(tmp_path / "results"), (quick_folder / "latest").resolve()
    other = str(renamed(run, tmp_path / "other"))
    saved = inside("baseline", "save", "quiet", str(run), "--out", out)
    again = inside("baseline", "save", "quiet", str(run), "--out", out)
    shown = xorbench("compare", other, "--baseline", "quiet", "--out", out, "--json")
    result = json.loads(shown.stdout)
    assert (saved.returncode, again.returncode) == (0, 2)
    assert {row["ratio"] for row in result["variants"]} == {1.0}
    codes = {"pass": 0, "fail": 1, "inconclusive": 3}
    assert shown.returncode == codes[result["outcome"]]
    page, cases = tmp_path / "compare.md", tmp_path / "compare.xml"
    for_ci = ("--markdown", str(page), "--junit", str(cases))
    inside("compare", str(run), other, *for_ci)
    assert "| case" in page.read_text()
    root = ElementTree.parse(cases).getroot()
    assert root.attrib["tests"] == str(len(result["variants"]) + len(result["machine"]))


def test_the_program_judges_along_an_axis(
    quick_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Text ends with the answer; JSON and Markdown carry verdict and bits; all exit alike."""
    codes = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}

    def printed(*form: str) -> tuple[object, str]:
        words = ["compare", str(quick_folder / "latest"), "--by", "drop-last", *form]
        monkeypatch.setattr("sys.argv", ["xorbench", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().out

    code, text = printed("--markdown", str(tmp_path / "by.md"))
    lines = [line for line in text.splitlines() if not line.startswith("next: ")]
    assert codes[lines[-1].partition(":")[0]] == code
    text = (tmp_path / "by.md").read_text()
    assert codes[text.strip().splitlines()[-1].partition(":")[0]] == code
    assert "diverge at epoch 0" in text
    code, text = printed("--json")
    result = json.loads(text)
    assert codes[result["outcome"].upper()] == code
    assert (result["pairs"][0]["diverged_epoch"], result["threshold"]) == (0, 0.05)


@pytest.mark.parametrize("way", ["itself", "a copy", "a baseline", "an export"])
def test_a_run_is_not_compared_with_itself(
    quick_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    way: str,
) -> None:
    """Comparing a run with itself is one line and exit code 2."""
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
    assert "compare with a new run" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "fragment"),
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
def test_an_impossible_comparison_is_one_line(
    quick_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    fragment: str,
) -> None:
    """Each mistake is one line that names the option, and exit code 2."""
    monkeypatch.setattr("sys.argv", ["xorbench", "compare", *arguments, "--out", str(quick_folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    message = capsys.readouterr().err
    assert (ended.value.code, message.count("xorbench:"), fragment in message) == (2, 1, True)


@pytest.mark.parametrize(
    ("flaw", "fragment"),
    [({"faults": ["delay:ms=1"]}, "injected faults"), ({"stress": "cpu"}, "under load")],
)
def test_an_injected_run_is_not_a_baseline(
    quick_run: Run, copied: Path, tmp_path: Path, flaw: dict[str, Any], fragment: str
) -> None:
    """Only a finished run without faults becomes a baseline; a rejected one leaves no files."""
    info = msgspec.structs.replace(quick_run.info, **flaw)
    (copied / "run.json").write_bytes(msgspec.json.encode(info))
    with pytest.raises(BadFile, match=fragment):
        baselines.save(tmp_path / "results", "different", copied, replace=False)
    assert not (tmp_path / "results" / "baselines").exists()


def test_a_baseline_is_replaced_whole(copied: Path, tmp_path: Path) -> None:
    """With --replace the new run replaces the old baseline, and reads back unchanged."""
    root = tmp_path / "results"
    baselines.save(root, "quiet", copied, replace=False)
    baselines.save(root, "quiet", copied, replace=True)
    kept, run = loading.load(baselines.find(root, "quiet")), loading.load(copied)
    assert (kept.trainings, kept.system_samples) == (run.trainings, run.system_samples)
    assert [path.name for path in (root / "baselines").iterdir()] == ["quiet"]


# A run and the baseline of its machine


BEFORE = "2026-11-20T08:00:00Z"


def identified(run: Run, run_id: str, **facts: Any) -> Run:
    """The run under a different id, with these details."""
    info = msgspec.structs.replace(run.info, id=run_id, finished=BEFORE, **facts)
    return msgspec.structs.replace(run, info=info)


def keep(root: Path, name: str, run: Run) -> None:
    """Store a run as a baseline: its trainings, their epochs, and the calibrations before."""
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
        own_lines = [msgspec.structs.replace(line, run=run.info.id) for line in lines]
        (folder / file).write_bytes(
            b"".join(msgspec.json.encode(line) + b"\n" for line in own_lines)
        )


def observed_in(
    training: TrainingRecord, begun_s: float
) -> tuple[list[EpochLine], list[CalibrationLine]]:
    """The epochs of a training, one per second, and the calibrations at the end of each."""
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
        calibrations += CALIBRATIONS_PER_ROUND * [
            CalibrationLine(
                process=process, device=device, kind=kind, calibration_s=calibration_s,
                waited_s=calibration_s, at_s=at_s,
            )
        ]  # fmt: skip
    return epochs, calibrations


def baseline_of(root: Path, run: Run) -> WithBaseline | None:
    """The comparison of a run in this folder with its baseline."""
    return with_baseline(root / "runs" / run.info.id, run)


@pytest.mark.parametrize(
    ("factors", "word"),
    [({}, "Yes"), ({"one": 0.8}, "Yes"), ({"one": 1.2}, "No"), ({"machine": 1.8}, "No")],
)
def test_speed_is_answered_by_the_baseline_as_compare_does(
    run: Run, tmp_path: Path, factors: dict[str, float], word: str
) -> None:
    """The answer has name, date and the ratio of `compare`; the exit code is unaffected."""
    before = identified(steady(run), "before", started=BEFORE)
    after = identified(steady(run, seed=1, **factors), "after")
    keep(tmp_path, "quiet", before)
    result = baseline_of(tmp_path, after)
    assert result is not None
    expected = compare(before, after)
    answer = answers(Evidence(after), [], result)[-1]
    ratios = [*expected.variants, *expected.machine]
    assert [*result.comparison.variants, *result.comparison.machine] == ratios
    assert (result.verdicts, answer.word) == ([], word)
    assert "this machine's baseline quiet of 2026-11-20" in answer.sentence
    assert any(row.times in answer.sentence for row in ratios)


def test_an_inconclusive_speed_is_not_a_yes(run: Run, tmp_path: Path) -> None:
    """One process has no interval, so the answer is inconclusive."""
    keep(tmp_path, "quiet", identified(steady(run), "before", started=BEFORE))
    one_process = [t for t in steady(run, seed=1).trainings if t.process == "p0"]
    after = msgspec.structs.replace(identified(run, "after"), trainings=one_process)
    assert answers(Evidence(after), [], baseline_of(tmp_path, after))[-1].word == "Inconclusive"


def test_the_newest_baseline_of_this_machine_and_recipe_is_taken(run: Run, tmp_path: Path) -> None:
    """Baselines of a different machine, recipe or calibration, and damaged ones, are skipped."""
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
    result = baseline_of(tmp_path, after)
    assert result is not None
    assert result.name == "anonymous"


def test_a_speed_under_load_is_not_judged(run: Run, tmp_path: Path) -> None:
    """A run under load and an unfinished run are not compared with a baseline."""
    keep(tmp_path, "quiet", identified(steady(run), "before", started=BEFORE))
    for facts in ({"stress": "cpu"}, {"finished": None}):
        info = msgspec.structs.replace(identified(run, "after").info, **facts)
        assert baseline_of(tmp_path, msgspec.structs.replace(run, info=info)) is None


def test_without_a_baseline_the_answer_says_how_to_save_one(run: Run) -> None:
    """The answer without a baseline names baseline save if the run can be one."""
    speed_answers = [
        answers(Evidence(one), [])[-1] for one in (run, identified(run, "x", faults=["slow"]))
    ]
    assert [answer.word for answer in speed_answers] == ["Not judged"] * 2
    assert ["baseline save" in answer.sentence for answer in speed_answers] == [True, False]


def test_a_requested_baseline_counts(run: Run, tmp_path: Path) -> None:
    """Slower fails as in `compare`; a missing or incomparable baseline is not a pass."""
    keep(tmp_path, "quiet", identified(steady(run), "before", started=BEFORE))
    slow = identified(steady(run, seed=1, one=1.2), "after", baseline="quiet")
    result = baseline_of(tmp_path, slow)
    assert result is not None
    assert [v.subject for v in result.verdicts if v.outcome == "fail"] == [ONE]
    other = baseline_of(tmp_path, identified(slow, "after", recipe_sha256="0" * 64))
    assert other is not None
    assert [v.outcome for v in other.verdicts] == ["inconclusive"]
    with pytest.raises(BadOption, match="--baseline: no baseline 'gone'"):
        baseline_of(tmp_path, identified(slow, "after", baseline="gone"))


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (("--baseline", "none"), "--baseline: no baseline 'none'"),
        (("--baseline", "quiet", "--stress", "cpu"), "--baseline: cannot be given with --stress"),
        (
            ("--baseline", "quiet", "--epochs", "3"),
            "--baseline: nothing to compare: recipes differ",
        ),
    ],
)
def test_an_unusable_baseline_is_rejected_before_the_run(
    run: Run, inside: Xorbench, tmp_path: Path, options: tuple[str, ...], fragment: str
) -> None:
    """One line, exit code 2, nothing written."""
    keep(tmp_path / "results", "quiet", identified(run, "before"))
    done = inside("run", "--quick", *options)
    assert (done.returncode, fragment in done.stderr.splitlines()[0]) == (2, True), done.stderr
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["baselines"]


def test_the_answer_has_speeds_with_intervals_and_disturbances(run: Run) -> None:
    """The slowest and the fastest case equal the table; a busy machine is named."""
    busy = [SystemSample(at_s=1.0, load_average_1min=2.0, others_percent=40.0, steal_percent=0.0)]
    noisy = msgspec.structs.replace(steady(run), system_samples=busy)
    text = answers(Evidence(noisy), [])[-1].sentence
    table = throughput(Evidence(steady(run))).sort_values("samples/s")
    for _, row in table.iloc[[0, -1]].iterrows():
        low, high = row["samples/s low"], row["samples/s high"]
        assert f"{row['samples/s']:,.0f} [{low:,.0f}, {high:,.0f}]" in text
    assert "not quiet: contended: other programs took 40%" in text


def test_one_process_gives_speeds_without_intervals(run: Run) -> None:
    """The answer states that there is one process."""
    one_process = msgspec.structs.replace(
        run, trainings=[t for t in run.trainings if t.process == "p0"]
    )
    assert "one process, so without intervals" in answers(Evidence(one_process), [])[-1].sentence


def test_an_inconclusive_ratio_has_a_hint() -> None:
    """The hint of an inconclusive ratio is more processes; a pass has no hint."""
    row = Ratio(
        subject="a", ratio=1.03, low=1.013, high=1.055, p=0.2, processes=2, verdict="inconclusive"
    )
    verdict = ratio_verdict("compare", row, 1.05)
    assert (verdict.outcome, verdict.hint) == (
        "inconclusive",
        "the interval 1.013 to 1.055 contains the limit: rerun both with --processes 5",
    )
    quiet = ratio_verdict("compare", row, 1.05, advice="rerun B on a quieter machine")
    assert quiet.hint.endswith("contains the limit: rerun B on a quieter machine")
    slow = ratio_verdict("compare", msgspec.structs.replace(row, verdict="slower"), 1.05)
    sound = ratio_verdict("compare", msgspec.structs.replace(row, verdict="same"), 1.05)
    assert (slow.outcome, sound.outcome) == ("fail", "pass")
    assert next_step([sound]) == ""
    assert next_step([verdict, slow]).startswith("next: a: profile an epoch")
