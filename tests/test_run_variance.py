"""What the runs of a machine differ by: measured, saved, and used by `compare`."""

import math
import random
from pathlib import Path

import msgspec
import pytest
from conftest import Xorbench
from test_compare import ONE, steady

from xorbench.errors import BadFile
from xorbench.records.schema.run import Run
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.speed import PACKAGED, RunVariance
from xorbench.xor.compare.compare import variance_of
from xorbench.xor.compare.comparison import compare
from xorbench.xor.compare.run_variance import NotCalibrated, between_runs, calibrated


def drawn(runs: int, between: float, within: float, seed: int = 0) -> list[dict[str, list[float]]]:
    """Logarithms of runs of two cases and three processes, with these standard deviations."""
    draw = random.Random(seed)
    return [
        {
            case: [shift + draw.gauss(0, within) for _ in range(3)]
            for case in ("a", "b")
            for shift in [draw.gauss(0, between)]
        }
        for _ in range(runs)
    ]


def test_scatter_between_runs_is_told_from_that_between_processes() -> None:
    """Of 400 runs both standard deviations come out within a tenth."""
    between, within = between_runs(drawn(400, between=0.01, within=0.004))
    assert between == pytest.approx(0.01, rel=0.1)
    assert within == pytest.approx(0.004, rel=0.1)


def test_few_runs_never_say_that_there_is_none() -> None:
    """The least is what they could not have told from none: the standard error of eight runs."""
    found = [between_runs(drawn(8, 0.0, 0.006, seed))[0] for seed in range(50)]
    assert min(found) > 0.001
    assert sum(found) / 50 < 0.004


def test_one_process_a_run_shows_nothing() -> None:
    """What its processes explain cannot be taken off."""
    with pytest.raises(NotCalibrated, match="two processes"):
        between_runs([{"a": [0.0]}, {"a": [0.1]}])


def quiet_runs(run: Run, spread: float = 0.01) -> list[Evidence]:
    """Six quiet runs whose epochs alternately take more and less than usual."""
    return [Evidence(steady(run, seed=n, code=math.exp(spread * (-1) ** n))) for n in range(6)]


def test_what_remains_of_a_drift_is_measured_beside_a_load(quick_run: Run) -> None:
    """The machine 1.5 times slower, and the epochs 2% more than that."""
    loaded = [Evidence(steady(quick_run, seed=9, machine=1.5, code=1.02))]
    found = calibrated(quiet_runs(quick_run), loaded, "2026-01-01")
    moved = math.log(1.5)
    assert found.slowed == pytest.approx(1.5)
    assert found.scatter.residual_drift == pytest.approx(
        math.log(1.02) / (moved * (1 + 2 * moved)), rel=0.1
    )
    assert found.scatter.between == pytest.approx(0.011, rel=0.1)
    assert found.scatter.dof == 5


def test_a_case_that_one_run_lacks_is_left_out(quick_run: Run) -> None:
    """Its process died, say: the other case tells what there is to tell."""
    runs = [steady(quick_run, seed=n, code=math.exp(0.01 * (-1) ** n)) for n in range(6)]
    left = [one for one in runs[2].trainings if one.case.id != ONE]
    runs[2] = msgspec.structs.replace(runs[2], trainings=left)
    loaded = [Evidence(steady(quick_run, seed=9, machine=1.5, code=1.02))]
    found = calibrated([Evidence(run) for run in runs], loaded, "2026-01-01")
    assert found.slowed == pytest.approx(1.5)
    assert found.scatter.between == pytest.approx(0.011, rel=0.2)


def test_a_load_that_slows_nothing_down_is_said(quick_run: Run) -> None:
    """Nothing can be learnt from it."""
    with pytest.raises(NotCalibrated, match="slowed nothing down"):
        calibrated(quiet_runs(quick_run), [Evidence(steady(quick_run))], "")


def test_too_few_runs_are_said(quick_run: Run) -> None:
    """With three there is hardly a standard deviation."""
    with pytest.raises(NotCalibrated, match="3 quiet runs are too few"):
        calibrated(quiet_runs(quick_run)[:3], [], "")


def test_compare_allows_for_the_scatter_of_the_machine(quick_run: Run) -> None:
    """8% slower is slower where runs differ by 0.4%, and undecided where they differ by 5%."""
    a, b = steady(quick_run), steady(quick_run, seed=1, one=1.08)
    wide = RunVariance(between=0.05, dof=7, residual_drift=0.02, source="8 runs of this machine")
    found = {
        scatter.source: next(
            row for row in compare(a, b, scatter=scatter).variants if row.subject == ONE
        )
        for scatter in (PACKAGED, wide)
    }
    assert found[""].verdict == "slower"
    assert found[wide.source].verdict == "inconclusive"
    assert found[""].ratio == found[wide.source].ratio
    assert wide.source in compare(a, b, scatter=wide).intervals
    assert "another machine" in compare(a, b).intervals


def test_a_damaged_file_is_refused(tmp_path: Path, quick_run: Run) -> None:
    """By name, before anything is compared."""
    path = tmp_path / "baselines" / "scatter.json"
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(BadFile, match=r"scatter\.json: damaged"):
        variance_of(tmp_path, quick_run)


@pytest.mark.parametrize("option", ["--runs", "--processes", "--epochs"])
def test_a_number_that_would_measure_nothing_is_refused(inside: Xorbench, option: str) -> None:
    """One line that names the option, exit code 2."""
    done = inside("baseline", "calibrate", option, "1")
    assert (done.returncode, done.stderr.startswith(f"xorbench: {option}: ")) == (2, True)
