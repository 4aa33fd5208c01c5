"""`canary --burn-in`: clean, with injected faults, interrupted, and its metrics."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import Xorbench, command
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads would spin while waiting for each other next to parallel tests."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_burn_in_names_seed_device_round_and_time_of_a_flip(
    inside: Xorbench, tmp_path: Path
) -> None:
    """A flipped bit of one model is reported immediately; exit code 1, nothing saved."""
    done = inside(
        *("canary", "--devices", "cpu", "--probes", "training", "--burn-in", "0.1", "--save"),
        *("--inject", "flip-model:epoch=0,element=37,bit=0"),
    )
    assert done.returncode == 1
    assert re.search(
        r"mismatch on cpu: 20\S+ training, round 0, model 37, seed 5: expected \w{64}, got \w{64}",
        done.stderr,
    )
    assert re.search(r"FAIL +cpu: training +burn-in", done.stdout)
    assert '"cpu"' not in (tmp_path / "results" / "baselines" / "calibrations.json").read_text()


def test_a_product_that_occasionally_flips_a_bit_is_detected(
    inside: Xorbench,
) -> None:
    """The report names type, product, element and bit, and that a retry is correct."""
    done = inside(
        *("canary", "--devices", "cpu", "--probes", "matmul", "--burn-in", "1"),
        *("--inject", "flip-product:step=20,element=77777,bit=22"),
    )
    assert done.returncode == 1
    report = r"matmul \w+ \d+, round \d+, \w+ product \d+, element \[\d+, \d+\]: expected \w+, got"
    assert re.search(report, done.stderr)
    assert "bits flipped: 22, correct on retry" in done.stderr


def test_a_stuck_bit_is_reproduced_at_the_same_position(inside: Xorbench) -> None:
    """The small probe fails, and the burn-in reports that the mismatch is reproduced."""
    done = inside(
        *("canary", "--devices", "cpu", "--probes", "matmul", "--burn-in", "0.5"),
        *("--inject", "wrong-product:element=3,bit=20"),
    )
    assert done.returncode == 1
    assert re.search(r"FAIL +cpu +matmul", done.stdout)
    assert "reproduced at the same position" in done.stderr


def test_a_clean_burn_in_passes_and_every_unit_has_its_turn(inside: Xorbench) -> None:
    """Even a short burn-in verifies every unit."""
    chosen = ("--probes", "training,memory,conv,conversion", "--memory", "2MiB")
    done = inside("canary", "--devices", "cpu", "--burn-in", "0.1", *chosen, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    units = {unit["unit"]: unit for unit in answer["burned"]["cpu"]}
    assert set(units) == {"memory", "training", "conv", "conversion"}
    assert all(
        unit["turns"] and unit["results"] and not unit["mismatches"] for unit in units.values()
    )
    assert [
        v for v in answer["verdicts"] if v["check"] == "burn-in" and v["outcome"] == "fail"
    ] == []


def test_prometheus_reads_the_metrics(inside: Xorbench, tmp_path: Path) -> None:
    """The parser of `prometheus_client` reads checks, results and rates."""
    done = inside(
        *("canary", "--devices", "cpu", "--probes", "matmul,memory", "--burn-in", "0.1"),
        *("--memory", "1MiB", "--prometheus", "x.prom"),
    )
    assert done.returncode == 0, done.stderr
    families = text_string_to_metric_families((tmp_path / "x.prom").read_text())
    samples = {(s.name, *sorted(s.labels.values())): s.value for f in families for s in f.samples}
    assert samples["xorbench_canary_exit_code",] == 0
    assert samples["xorbench_canary_check", "cpu", "matmul"] == 1
    assert samples["xorbench_burn_in_wrong", "cpu", "memory"] == 0
    assert samples["xorbench_burn_in_results", "cpu", "matmul float32 256"] > 0
    assert samples["xorbench_burn_in_flops", "cpu", "matmul float32 256"] > 1e8
    assert [path.name for path in tmp_path.iterdir()] == ["x.prom"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_burn_in_reports_its_results(tmp_path: Path, number: signal.Signals) -> None:
    """After a flipped word, a signal ends the burn-in with its verdict and exit code 130."""
    process = subprocess.Popen(
        command(
            *("canary", "--devices", "cpu", "--probes", "memory", "--burn-in", "100"),
            *("--memory", "1MiB", "--inject", "flip-memory:epoch=0,element=70000,bit=63"),
        ),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        line = next(line for line in lines if "mismatch on cpu" in line)
        assert re.search(r"memory, round 0, memory, element \[70000\]:.*bits flipped: 63", line)
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "1 wrong in" in output
    assert "INTERRUPTED" in output
