"""Cost of a step and of a sample: injected costs are recovered, and misfits are reported."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from xorbench.records import loading
from xorbench.records.schema.run import Run
from xorbench.xor.analysis.cost_model import Fit, coefficients, overtaking
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.matrix.case import Case
from xorbench.xor.report import plots
from xorbench.xor.report.tables import speed

REFERENCE = Path(__file__).parents[1] / "results" / "reference"
Cost = Callable[[int, int], float]  # seconds, by batches and samples
STEP_S, SAMPLE_S = 150e-6, 2e-6


def line(batches: int, samples: int) -> float:
    """A known cost."""
    return STEP_S * batches + SAMPLE_S * samples


def timed(run: Run, costs: dict[str, Cost], sizes: tuple[int, ...], extra: float = 0.0) -> Run:
    """The run as if each device had trained each batch size at this cost, with and without rest.

    The second process is slower by the share `extra`.
    """
    cases = [Case(d, batch_size=s, drop_last=drop) for d in costs for s in sizes for drop in (1, 0)]
    firsts = {t.process: t for t in run.trainings}
    trainings = []
    for case in cases:
        work = [f(case.batch_size, case.drop_last) for f in (run.info.recipe.steps, samples(run))]
        for number, training in enumerate(firsts.values()):
            epoch_s = [costs[case.device](*work) * (1 + extra * number)] * len(
                training.epoch_digests
            )
            trainings.append(msgspec.structs.replace(training, case=case, epoch_s=epoch_s))
    info = msgspec.structs.replace(run.info, cases=cases)
    return msgspec.structs.replace(run, info=info, trainings=trainings)


def samples(run: Run) -> Callable[[int, bool], int]:
    """Samples in an epoch by the run's recipe."""
    return run.info.recipe.samples


def only(run: Run) -> Fit:
    """The one fit of the run."""
    (fit,) = coefficients(Evidence(run))
    return fit


def test_injected_costs_are_recovered(quick_run: Run) -> None:
    """Times computed from a and b give a and b, and a leave-one-out error of zero."""
    fit = only(timed(quick_run, {"cpu": line}, (32, 64, 128, 256)))
    assert fit.step_s is not None
    assert fit.sample_s is not None
    assert fit.leave_one_out is not None
    assert fit.step_s.value == pytest.approx(STEP_S)
    assert fit.sample_s.value == pytest.approx(SAMPLE_S)
    assert max(fit.leave_one_out.values()) < 1e-9


def test_processes_apart_widen_the_interval(quick_run: Run) -> None:
    """With a process that is 2% slower, the interval covers the costs of both."""
    fit = only(timed(quick_run, {"cpu": line}, (32, 64, 128, 256), extra=0.02))
    assert fit.step_s is not None
    assert fit.step_s.low is not None
    assert fit.step_s.high is not None
    assert fit.step_s.low < STEP_S < 1.02 * STEP_S < fit.step_s.high


def test_a_nonlinear_cost_has_a_large_leave_one_out_error(quick_run: Run) -> None:
    """Batches of 256 at double cost have a large leave-one-out error."""
    sizes = (32, 64, 128, 256)
    fit = only(timed(quick_run, {"cpu": lambda b, n: line(b, n) * (1 + (n / b > 200))}, sizes))
    assert fit.leave_one_out is not None
    assert fit.leave_one_out[256] > 0.4


def test_two_batch_sizes_make_no_line(quick_run: Run) -> None:
    """With fewer than three the reason is given, and no number."""
    fit = only(timed(quick_run, {"cpu": line}, (64, 128)))
    assert fit.step_s is None
    assert "no fit: 2 batch size(s), 3 are needed" in fit.note


def test_one_process_has_no_interval(quick_run: Run) -> None:
    """One process has no interval."""
    run = timed(quick_run, {"cpu": line}, (32, 64, 128))
    one_process = msgspec.structs.replace(
        run, trainings=[t for t in run.trainings if t.process == "p0"]
    )
    assert only(one_process).step_s is not None
    assert only(one_process).step_s == replace(
        only(one_process).step_s, low=None, high=None, processes=1
    )


def test_an_accelerator_overtakes_where_the_lines_cross(quick_run: Run) -> None:
    """A step at 5 times and a sample at a tenth of the cost overtake at 150 × 4 ÷ 1.8."""
    costs: dict[str, Cost] = {
        "cpu": line,
        "cuda": lambda b, n: 5 * STEP_S * b + SAMPLE_S / 10 * n,
    }
    cpu, cuda = coefficients(Evidence(timed(quick_run, costs, (64, 128, 256, 512))))
    assert (cpu.overtakes, cpu.note) == (None, "")
    assert cuda.overtakes == pytest.approx(4 * STEP_S / (0.9 * SAMPLE_S))
    assert cuda.note == ""


@pytest.mark.parametrize(
    ("step", "sample", "batch_size", "note"),
    [
        (5.0, 1.5, None, "never faster than the CPU"),
        (0.5, 0.5, None, "faster than the CPU at every batch size"),
        (0.5, 2.0, None, "faster than the CPU only below batch size 38"),
        (90.0, 0.1, 7416.7, "extrapolated: outside the batch sizes of this run"),
    ],
)
def test_lines_without_a_crossing_are_noted(
    step: float, sample: float, batch_size: float | None, note: str, quick_run: Run
) -> None:
    """Without a crossing the note states which device is faster."""
    cpu = only(timed(quick_run, {"cpu": line}, (32, 64, 128, 256)))
    costs: Cost = lambda b, n: step * STEP_S * b + sample * SAMPLE_S * n  # noqa: E731
    other = only(timed(quick_run, {"cpu": costs}, (32, 64, 128, 256)))
    result, why = overtaking(other, cpu)
    assert (result, why) == (pytest.approx(batch_size, abs=0.1), note)


def test_a_run_without_an_accelerator_is_noted(quick_run: Run) -> None:
    """Without an accelerator the note states it."""
    table = speed.coefficients(Evidence(timed(quick_run, {"cpu": line}, (32, 64, 128))))
    assert list(table["note"]) == ["no accelerator in this run to compare with"]


def test_the_reference_run_is_a_line() -> None:
    """The median leave-one-out error of the reference run is below 10%."""
    run = loading.load(REFERENCE / "epyc-2core-cpu")
    row = speed.coefficients(Evidence(run)).iloc[0]
    assert row["batch sizes"] == "32 64 125 128 256"
    assert row["a (µs a step) low"] < row["a (µs a step)"] < row["a (µs a step) high"]
    assert row["b (ns a sample) low"] < row["b (ns a sample)"] < row["b (ns a sample) high"]
    assert row["leave-one-out error, median (%)"] < 10


def test_the_picture_has_each_batch_size_and_its_line(quick_run: Run) -> None:
    """The picture has one dot per batch size, and the description the largest deviation."""
    run = timed(quick_run, {"cpu": line}, (32, 64, 128))
    plot = plots.PLOTS["scaling"]
    frame = plot.data(Evidence(run))
    assert list(frame["batch size"]) == [32, 64, 128]
    assert frame["samples/s of the line"].to_list() == pytest.approx(frame["samples/s"].to_list())
    assert plot.describe(frame).startswith("1 line through 3 points")
    assert plot.draw(frame).count("<svg") == 1
