"""`canary` from end to end: a pass, every kind of failure, the saved calibration, the burn-in."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Xorbench, command
from test_run import lacking_device

from xorbench.errors import BadFile
from xorbench.judge.canary import Burned, fast, right, sound
from xorbench.judge.checks import checked
from xorbench.measure.process import OperationFailed
from xorbench.measure.runner import ProcessSlot, golden_of
from xorbench.observe import calibrations
from xorbench.observe.calibrations import Saved
from xorbench.observe.records import Fact
from xorbench.plan.case import ProcessConfig


def outcomes(answer: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Outcome by check and variant."""
    return {(v["check"], v["subject"]): v["outcome"] for v in answer["verdicts"]}


def test_a_sound_cpu_passes(xorbench: Xorbench, tmp_path: Path) -> None:
    """Edge cases, digest and score pass; speed has no saved value; nothing is written."""
    done = xorbench("canary", "--devices", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "PASS"
    assert outcomes(answer) == {
        ("arithmetic", "cpu"): "pass",
        ("universal", "cpu"): "pass",
        ("accuracy", "cpu"): "pass",
        ("speed", "cpu"): "skipped",
    }
    assert list(tmp_path.iterdir()) == []


def test_flushed_subnormals_fail_and_the_case_is_named(xorbench: Xorbench) -> None:
    """The digest of the training cannot see them; the probe does, case and bits."""
    done = xorbench("canary", "--devices", "cpu", "--inject", "flush-subnormals")
    assert done.returncode == 1
    assert "FAIL  cpu  arithmetic  probe subnormal, smallest + smallest (add)" in done.stdout
    assert "PASS  cpu  universal" in done.stdout


def test_a_burn_in_names_seed_device_round_and_time_of_a_flip(xorbench: Xorbench) -> None:
    """One bit of one of 40 models in the first round: found, said at once, exit 1."""
    done = xorbench(
        *("canary", "--devices", "cpu", "--models", "40", "--seconds", "0.1"),
        *("--inject", "flip-model:epoch=0,element=37,bit=0"),
    )
    assert done.returncode == 1
    assert "mismatch: seed 5 on cpu at 20" in done.stderr  # model 37 trains golden seed 37 % 32
    assert "round 0, model 37" in done.stderr
    assert "burn-in" in done.stdout


def test_a_clean_burn_in_passes(xorbench: Xorbench) -> None:
    """At least one round, every model at its golden digest."""
    done = xorbench("canary", "--devices", "cpu", "--models", "3", "--seconds", "0.1", "--json")
    assert done.returncode == 0, done.stderr
    burned = next(v for v in json.loads(done.stdout)["verdicts"] if v["check"] == "burn-in")
    assert burned["actual"].endswith("rounds of 3 models, all equal")


def test_a_missing_device_is_skipped_and_required_is_4(xorbench: Xorbench) -> None:
    """Skipped is neutral beside a pass; required, it is exit 4; alone, exit 3."""
    device = lacking_device()
    assert xorbench("canary", "--devices", f"cpu,{device}").returncode == 0
    assert xorbench("canary", "--devices", f"cpu,{device}", "--require-devices").returncode == 4
    assert xorbench("canary", "--devices", device).returncode == 3


def test_a_saved_calibration_is_compared_with(xorbench: Xorbench, tmp_path: Path) -> None:
    """Saved once, it passes against itself; against a value ten times shorter it fails."""
    assert xorbench("canary", "--devices", "cpu", "--save").returncode == 0
    assert (
        "PASS  cpu  speed"
        in xorbench("canary", "--devices", "cpu", "--machine-threshold", "9").stdout
    )
    path = tmp_path / "results" / "baselines" / "calibrations.json"
    file = json.loads(path.read_text())
    key = next(iter(file["machines"]))
    file["machines"][key]["cpu"]["calibration_s"] /= 10
    path.write_text(json.dumps(file))
    done = xorbench("canary", "--devices", "cpu")
    assert done.returncode == 1
    assert "FAIL  cpu  speed" in done.stdout


def test_a_damaged_saved_file_is_refused_before_anything_runs(
    xorbench: Xorbench, tmp_path: Path
) -> None:
    """One line that names the file, exit 2, and the file is left as it was."""
    path = tmp_path / "results" / "baselines" / "calibrations.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    done = xorbench("canary", "--save")
    assert done.returncode == 2
    assert "calibrations.json: damaged" in done.stderr
    assert path.read_text() == "{"


def test_an_interrupted_burn_in_says_what_it_has_checked(tmp_path: Path) -> None:
    """A polite kill after some rounds, the first with a flip: their verdict, exit 130."""
    process = subprocess.Popen(
        command(
            *("canary", "--devices", "cpu", "--models", "2", "--seconds", "1000"),
            *("--inject", "flip-model:epoch=0"),
        ),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "mismatch: seed 0" in process.stderr.readline()  # the first round is checked
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == 130
    assert "1 wrong in" in output
    assert "INTERRUPTED" in output


def test_a_crash_is_a_failed_canary(xorbench: Xorbench) -> None:
    """No answer in time: the device did not come to the end, exit 1."""
    done = xorbench("canary", "--devices", "cpu", "--timeout", "4", "--models", "20000")
    assert done.returncode == 1
    assert "no answer within 4 s" in done.stdout
    assert "PASS  cpu  universal" in done.stdout  # what was found before it still stands


def test_run_holds_each_device_to_the_golden_values(quick_folder: Path) -> None:
    """Every process of a run has its universal digest on record, and it was judged."""
    info = json.loads((quick_folder / "latest" / "run.json").read_text())
    for process in info["processes"]:
        digest = process["golden"]["cpu"]["universal"][0]
        assert digest["actual"].startswith("92d7d246542699294b2003719e235f6d")
    verdicts = json.loads((quick_folder / "latest" / "verdicts.json").read_text())
    assert [v["outcome"] for v in verdicts if v["check"] == "universal"] == ["pass", "pass"]


# Verdicts


def fact(what: str, actual: str) -> Fact:
    """A fact whose golden value is `good`."""
    return Fact(what=what, expected="good", actual=actual)


def test_a_fact_that_is_not_golden_fails_and_is_named() -> None:
    """Of three facts the wrong one is shown."""
    facts = [
        fact("digest", "good"),
        fact("epoch digests of seed 0, epoch 17", "bad"),
        fact("score", "good"),
    ]
    verdict = checked("universal", "cpu", facts)
    assert verdict.outcome == "fail"
    assert verdict.actual == "epoch digests of seed 0, epoch 17: bad"


@pytest.mark.parametrize(
    ("times_s", "outcome"), [([0.010] * 5, "pass"), ([0.014] * 5, "pass"), ([0.016] * 5, "fail")]
)
def test_speed_fails_beyond_the_threshold(times_s: list[float], outcome: str) -> None:
    """One and a half times the saved 10 ms is the limit."""
    assert fast("cpu", times_s, 0.010, 1.5, "").outcome == outcome


def test_without_a_value_to_compare_with_the_reason_is_shown() -> None:
    """Speed is measured all the same, and skipped."""
    verdict = fast(
        "cpu", [0.01], None, 1.5, "the saved value is of calibration version 1, this is version 3"
    )
    assert (verdict.outcome, "of calibration version 1" in verdict.actual) == ("skipped", True)


def test_one_slow_epoch_does_not_fail_speed() -> None:
    """It is the median that is judged."""
    assert fast("cpu", [0.01, 0.01, 0.01, 0.5, 0.01], 0.010, 1.5, "").outcome == "pass"


def test_many_mismatches_are_counted_and_some_are_shown() -> None:
    """The line stays a line."""
    verdict = sound("cpu", Burned(9, 4, [f"seed {n}" for n in range(8)]))
    assert verdict.actual == "8 wrong in 9 rounds of 4 models: seed 0; seed 1; seed 2 and 5 more"


def test_saved_times_of_other_machines_are_kept(tmp_path: Path) -> None:
    """Saving one machine's time leaves those of the others."""
    saved = Saved(calibration_s=0.01, calibration_version=1, torch_version="2.13", saved="now")
    calibrations.save(tmp_path, "one", {"cpu": saved})
    calibrations.save(tmp_path, "two", {"cpu": saved})
    calibrations.save(tmp_path, "one", {"cuda": saved})
    assert calibrations.load(tmp_path).machines == {
        "one": {"cpu": saved, "cuda": saved},
        "two": {"cpu": saved},
    }


def test_saved_times_of_a_newer_schema_are_refused(tmp_path: Path) -> None:
    """They are not guessed at."""
    path = tmp_path / calibrations.NAME
    path.parent.mkdir()
    path.write_text('{"schema_version": 3, "machines": {}}')
    with pytest.raises(BadFile, match="schema version 3"):
        calibrations.load(tmp_path)


def test_a_device_that_cannot_do_the_training_fails_and_the_rest_goes_on() -> None:
    """An operation that raises is a fact that is not golden, not an end of everything."""

    class Refusing(ProcessSlot):
        def ask(self, op: str, **args: Any) -> dict[str, Any]:
            raise OperationFailed("RuntimeError: no such kernel")

    golden = golden_of(Refusing("p0", ProcessConfig(), 0), "cpu")
    verdicts = right("cpu", golden)
    assert {verdict.outcome for verdict in verdicts} == {"fail"}
    assert all("no such kernel" in verdict.actual for verdict in verdicts)
