"""Run-to-run variance of a machine: measured, saved, and used by `compare`."""

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


def test_variance_between_runs_is_separated_from_processes() -> None:
    """Both standard deviations of 400 runs are within 10%."""
    between, within = between_runs(drawn(400, between=0.01, within=0.004))
    assert between == pytest.approx(0.01, rel=0.1)
    assert within == pytest.approx(0.004, rel=0.1)


def test_few_runs_never_give_zero_variance() -> None:
    """The lower bound is the standard error of the runs."""
    result = [between_runs(drawn(8, 0.0, 0.006, seed))[0] for seed in range(50)]
    assert min(result) > 0.001
    assert sum(result) / 50 < 0.004


def test_one_process_per_run_is_an_error() -> None:
    """One process per run has no variance within the run."""
    with pytest.raises(NotCalibrated, match="two processes"):
        between_runs([{"a": [0.0]}, {"a": [0.1]}])


def quiet_runs(run: Run, spread: float = 0.01) -> list[Evidence]:
    """Six quiet runs whose epochs take alternately more and less time."""
    return [Evidence(steady(run, seed=n, code=math.exp(spread * (-1) ** n))) for n in range(6)]


def test_residual_drift_is_measured_under_load(quick_run: Run) -> None:
    """With a machine 1.5 times slower and epochs slower by 2% more, the share of drift is exact."""
    loaded = [Evidence(steady(quick_run, seed=9, machine=1.5, code=1.02))]
    result = calibrated(quiet_runs(quick_run), loaded, "2026-01-01")
    moved = math.log(1.5)
    assert result.slowed == pytest.approx(1.5)
    assert result.variance.residual_drift == pytest.approx(
        math.log(1.02) / (moved * (1 + 2 * moved)), rel=0.1
    )
    assert result.variance.between == pytest.approx(0.011, rel=0.1)
    assert result.variance.dof == 5


def test_a_case_that_one_run_lacks_is_excluded(quick_run: Run) -> None:
    """A case that one run lacks is excluded from the mean."""
    runs = [steady(quick_run, seed=n, code=math.exp(0.01 * (-1) ** n)) for n in range(6)]
    left = [one for one in runs[2].trainings if one.case.id != ONE]
    runs[2] = msgspec.structs.replace(runs[2], trainings=left)
    loaded = [Evidence(steady(quick_run, seed=9, machine=1.5, code=1.02))]
    result = calibrated([Evidence(run) for run in runs], loaded, "2026-01-01")
    assert result.slowed == pytest.approx(1.5)
    assert result.variance.between == pytest.approx(0.011, rel=0.2)


def test_a_load_without_effect_is_an_error(quick_run: Run) -> None:
    """A load without effect is an error."""
    with pytest.raises(NotCalibrated, match="slowed nothing down"):
        calibrated(quiet_runs(quick_run), [Evidence(steady(quick_run))], "")


def test_too_few_runs_are_an_error(quick_run: Run) -> None:
    """Three runs are an error."""
    with pytest.raises(NotCalibrated, match="3 quiet runs, but at least 4 are needed"):
        calibrated(quiet_runs(quick_run)[:3], [], "")


def test_compare_uses_the_variance_of_the_machine(quick_run: Run) -> None:
    """A slowdown of 8% is `slower` at a variance of 0.4%, and inconclusive at 5%."""
    a, b = steady(quick_run), steady(quick_run, seed=1, one=1.08)
    wide = RunVariance(between=0.05, dof=7, residual_drift=0.02, source="8 runs of this machine")
    result = {
        variance.source: next(
            row for row in compare(a, b, variance=variance).variants if row.subject == ONE
        )
        for variance in (PACKAGED, wide)
    }
    assert result[""].verdict == "slower"
    assert result[wide.source].verdict == "inconclusive"
    assert result[""].ratio == result[wide.source].ratio
    assert wide.source in compare(a, b, variance=wide).intervals
    assert "reference machine" in compare(a, b).intervals


def test_a_damaged_file_is_refused(tmp_path: Path, quick_run: Run) -> None:
    """By name, before anything is compared."""
    path = tmp_path / "baselines" / "run_variance.json"
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(BadFile, match=r"run_variance\.json: damaged"):
        variance_of(tmp_path, quick_run)


@pytest.mark.parametrize("option", ["--runs", "--processes", "--epochs"])
def test_a_number_that_would_measure_nothing_is_refused(inside: Xorbench, option: str) -> None:
    """One line that names the option, exit code 2."""
    done = inside("baseline", "calibrate", option, "1")
    assert (done.returncode, done.stderr.startswith(f"xorbench: {option}: ")) == (2, True)
