"""`canary` from end to end: a pass, every kind of failure, the saved calibration."""

import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import Completed, Reported, Xorbench, reported, run_in
from test_run import lacking_device

from xorbench.errors import BadFile
from xorbench.machine.canary.verdicts import (
    BurnedUnit,
    burn_in_verdict,
    golden_verdicts,
    speed_verdict,
)
from xorbench.machine.golden_answers import golden_of
from xorbench.machine.probes.table import exact_probes
from xorbench.records import saved as saving
from xorbench.records.saved import SavedCalibration
from xorbench.records.schema.golden import Fact
from xorbench.runtime.process import OperationFailed
from xorbench.runtime.slots import ProcessSlot
from xorbench.xor.checks.devices import checked
from xorbench.xor.matrix.case import ProcessConfig

TRAINING = ("--devices", "cpu", "--probes", "training")


def outcomes(answer: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Outcome by check and variant."""
    return {(v["check"], v["subject"]): v["outcome"] for v in answer["verdicts"]}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """A canary of the CPU in a CI with a step summary from an earlier step."""

    def make(folder: Path) -> Completed:
        (folder / "summary.md").write_text("before\n")
        env = {**os.environ, "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
        files = ("--junit", "j.xml", "--markdown", "c.md")
        return run_in(folder, "canary", "--devices", "cpu", "--json", *files, env=env)

    return reported(tmp_path_factory, "healthy", make)


def test_a_healthy_cpu_passes(healthy: Reported) -> None:
    """All checks pass, speed has no saved value, and only the requested files are written."""
    assert healthy.done.returncode == 0, healthy.done.stderr
    answer = healthy.result
    assert answer["verdict"] == "PASS"
    assert outcomes(answer) == {
        ("arithmetic", "cpu"): "pass",
        ("universal", "cpu"): "pass",
        ("accuracy", "cpu"): "pass",
        ("speed", "cpu"): "skipped",
        **{(probe, "cpu"): "pass" for probe in exact_probes()},
    }
    assert {path.name for path in healthy.folder.iterdir()} == {"summary.md", "j.xml", "c.md"}


def test_a_canary_writes_ci_output_files(healthy: Reported) -> None:
    """JUnit and Markdown are written, and the step summary is appended to."""
    markdown = (healthy.folder / "c.md").read_text()
    assert ElementTree.parse(healthy.folder / "j.xml").getroot().attrib["failures"] == "0"
    assert "## xorbench canary: PASS" in markdown
    assert (healthy.folder / "summary.md").read_text() == "before\n" + markdown


def test_flushed_subnormals_fail_and_the_case_is_named(inside: Xorbench) -> None:
    """The digest of the training does not cover them; the probe names the case."""
    done = inside("canary", *TRAINING, "--inject", "flush-subnormals")
    assert done.returncode == 1
    assert "FAIL  cpu  arithmetic  probe subnormal, smallest + smallest (add)" in done.stdout
    assert "PASS  cpu  universal" in done.stdout


def test_more_memory_than_is_free_is_refused_in_one_line(inside: Xorbench) -> None:
    """The line has the requested and free bytes; exit code 2."""
    done = inside(
        *("canary", "--devices", "cpu", "--probes", "memory", "--burn-in", "1"),
        *("--memory", "900TiB"),
    )
    assert done.returncode == 2
    assert re.search(r"--memory: cpu: [\d,]+ bytes requested, [\d,]+ are free", done.stderr)


def test_only_chosen_probes_are_checked(inside: Xorbench) -> None:
    """Training and speed are not checked."""
    done = inside("canary", "--devices", "cpu", "--probes", "conv,scatter", "--json")
    assert done.returncode == 0
    assert {check for check, _ in outcomes(json.loads(done.stdout))} == {"conv", "scatter"}


def test_a_missing_device_is_skipped_and_required_is_4(inside: Xorbench) -> None:
    """A skipped device does not affect a pass; required it is exit 4, and on its own exit 3."""
    device, probes = lacking_device(), ("--probes", "conv")
    assert inside("canary", *probes, "--devices", f"cpu,{device}").returncode == 0
    assert (
        inside("canary", *probes, "--devices", f"cpu,{device}", "--require-devices").returncode == 4
    )
    assert inside("canary", *probes, "--devices", device).returncode == 3


def test_a_saved_calibration_is_compared_with(inside: Xorbench, tmp_path: Path) -> None:
    """It passes against its own value, and fails against a tenth of it."""
    assert inside("canary", *TRAINING, "--save").returncode == 0
    assert "PASS  cpu  speed" in inside("canary", *TRAINING, "--machine-threshold", "9").stdout
    path = tmp_path / "results" / "baselines" / "calibrations.json"
    file = json.loads(path.read_text())
    key = next(iter(file["machines"]))
    file["machines"][key]["cpu"]["calibration_s"] /= 10
    path.write_text(json.dumps(file))
    done = inside("canary", *TRAINING)
    assert done.returncode == 1
    assert "FAIL  cpu  speed" in done.stdout


def test_a_damaged_saved_file_is_refused_before_anything_runs(
    inside: Xorbench, tmp_path: Path
) -> None:
    """The error is one line that names the file; the file is unchanged."""
    path = tmp_path / "results" / "baselines" / "calibrations.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    done = inside("canary", "--save")
    assert done.returncode == 2
    assert "calibrations.json: damaged" in done.stderr
    assert path.read_text() == "{"


def test_a_crash_is_a_failed_canary(inside: Xorbench) -> None:
    """A device without an answer in time is exit 1."""
    done = inside(
        *("canary", "--devices", "cpu", "--probes", "conv,memory", "--burn-in", "1000"),
        *("--timeout", "0.01"),
    )
    assert done.returncode == 1
    assert "no answer within 0.01 s" in done.stdout


def test_run_compares_each_device_with_the_golden_values(quick_folder: Path) -> None:
    """Every process of a run has a recorded universal digest with a verdict."""
    info = json.loads((quick_folder / "latest" / "run.json").read_text())
    for process in info["processes"]:
        digest = process["golden"]["cpu"]["universal"][0]
        assert digest["actual"].startswith("92d7d246542699294b2003719e235f6d")
    verdicts = json.loads((quick_folder / "latest" / "verdicts.json").read_text())
    assert [v["outcome"] for v in verdicts if v["check"] == "universal"] == ["pass", "pass"]


# Verdicts


def fact(name: str, actual: str) -> Fact:
    """A value whose golden value is `good`."""
    return Fact(what=name, expected="good", actual=actual)


def test_a_value_that_is_not_golden_fails_and_is_named() -> None:
    """The text shows the wrong one of three values."""
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
    """The limit is 1.5 times the saved 10 ms."""
    assert speed_verdict("cpu", times_s, 0.010, 1.5, "").outcome == outcome


def test_without_a_value_to_compare_with_the_reason_is_shown() -> None:
    """Speed is measured and skipped."""
    verdict = speed_verdict("cpu", [0.01], None, 1.5, "the saved value has calibration version 1")
    assert (verdict.outcome, "has calibration version 1" in verdict.actual) == ("skipped", True)


def test_one_slow_epoch_does_not_fail_speed() -> None:
    """The median is judged."""
    assert speed_verdict("cpu", [0.01, 0.01, 0.01, 0.5, 0.01], 0.010, 1.5, "").outcome == "pass"


def test_many_mismatches_are_counted_and_some_are_shown() -> None:
    """The verdict is one line."""
    wrong = [f"s {n}" for n in range(8)]
    unit = BurnedUnit("training", turns=9, results=36, mismatches=8, wrong=wrong)
    assert burn_in_verdict("cpu", unit).actual == "8 wrong in 36 results: s 0; s 1; s 2 and 5 more"


def test_saved_times_of_all_machines_are_kept(tmp_path: Path) -> None:
    """Saving one machine's time does not change the times of others."""
    saved = SavedCalibration(
        calibration_s=0.01, calibration_version=1, torch_version="2.13", saved="now"
    )
    saving.save_calibrations(tmp_path, "one", {"cpu": saved})
    saving.save_calibrations(tmp_path, "two", {"cpu": saved})
    saving.save_calibrations(tmp_path, "one", {"cuda": saved})
    assert saving.load_calibrations(tmp_path).machines == {
        "one": {"cpu": saved, "cuda": saved},
        "two": {"cpu": saved},
    }


def test_saved_times_of_a_newer_schema_are_refused(tmp_path: Path) -> None:
    """Unknown versions are not read."""
    path = tmp_path / saving.CALIBRATIONS
    path.parent.mkdir()
    path.write_text('{"schema_version": 3, "machines": {}}')
    with pytest.raises(BadFile, match="schema version 3"):
        saving.load_calibrations(tmp_path)


def test_a_device_that_cannot_train_fails_without_ending_the_canary() -> None:
    """An operation that raises is a mismatch."""

    class Refusing(ProcessSlot):
        def ask(self, op: str, **args: Any) -> dict[str, Any]:
            raise OperationFailed("RuntimeError: no such kernel")

    golden = golden_of(Refusing("p0", ProcessConfig(), 0), "cpu")
    verdicts = golden_verdicts("cpu", golden)
    assert {verdict.outcome for verdict in verdicts} == {"fail"}
    assert all("no such kernel" in verdict.actual for verdict in verdicts)
