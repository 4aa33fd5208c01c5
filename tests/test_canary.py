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
    """A canary of the CPU as a CI runs it, where an earlier step has a summary."""

    def make(folder: Path) -> Completed:
        (folder / "summary.md").write_text("before\n")
        env = {**os.environ, "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
        files = ("--junit", "j.xml", "--markdown", "c.md")
        return run_in(folder, "canary", "--devices", "cpu", "--json", *files, env=env)

    return reported(tmp_path_factory, "healthy", make)


def test_a_sound_cpu_passes(healthy: Reported) -> None:
    """Edge cases, digest and score pass; speed has no saved value; no other file is written."""
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


def test_a_canary_writes_what_a_ci_asks_for(healthy: Reported) -> None:
    """JUnit, Markdown and the step summary, which is added to what stands there."""
    markdown = (healthy.folder / "c.md").read_text()
    assert ElementTree.parse(healthy.folder / "j.xml").getroot().attrib["failures"] == "0"
    assert "## xorbench canary: PASS" in markdown
    assert (healthy.folder / "summary.md").read_text() == "before\n" + markdown


def test_flushed_subnormals_fail_and_the_case_is_named(inside: Xorbench) -> None:
    """The digest of the training cannot see them; the probe does, case and bits."""
    done = inside("canary", *TRAINING, "--inject", "flush-subnormals")
    assert done.returncode == 1
    assert "FAIL  cpu  arithmetic  probe subnormal, smallest + smallest (add)" in done.stdout
    assert "PASS  cpu  universal" in done.stdout


def test_more_memory_than_is_free_is_refused_in_one_line(inside: Xorbench) -> None:
    """Asked for and free, exit 2."""
    done = inside(
        *("canary", "--devices", "cpu", "--probes", "memory", "--burn-in", "1"),
        *("--memory", "900TiB"),
    )
    assert done.returncode == 2
    assert re.search(r"--memory: cpu: [\d,]+ bytes asked for, [\d,]+ are free", done.stderr)


def test_chosen_probes_alone_are_checked(inside: Xorbench) -> None:
    """No training, no speed: what was asked for."""
    done = inside("canary", "--devices", "cpu", "--probes", "conv,scatter", "--json")
    assert done.returncode == 0
    assert {check for check, _ in outcomes(json.loads(done.stdout))} == {"conv", "scatter"}


def test_a_missing_device_is_skipped_and_required_is_4(inside: Xorbench) -> None:
    """Skipped is neutral beside a pass; required, it is exit 4; alone, exit 3."""
    device, probes = lacking_device(), ("--probes", "conv")
    assert inside("canary", *probes, "--devices", f"cpu,{device}").returncode == 0
    assert (
        inside("canary", *probes, "--devices", f"cpu,{device}", "--require-devices").returncode == 4
    )
    assert inside("canary", *probes, "--devices", device).returncode == 3


def test_a_saved_calibration_is_compared_with(inside: Xorbench, tmp_path: Path) -> None:
    """Saved once, it passes against itself; against a value ten times shorter it fails."""
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
    """One line that names the file, exit 2, and the file is left as it was."""
    path = tmp_path / "results" / "baselines" / "calibrations.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    done = inside("canary", "--save")
    assert done.returncode == 2
    assert "calibrations.json: damaged" in done.stderr
    assert path.read_text() == "{"


def test_a_crash_is_a_failed_canary(inside: Xorbench) -> None:
    """No answer in time: the device did not come to the end, exit 1."""
    done = inside(
        *("canary", "--devices", "cpu", "--probes", "conv,memory", "--burn-in", "1000"),
        *("--timeout", "0.01"),
    )
    assert done.returncode == 1
    assert "no answer within 0.01 s" in done.stdout


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
    assert speed_verdict("cpu", times_s, 0.010, 1.5, "").outcome == outcome


def test_without_a_value_to_compare_with_the_reason_is_shown() -> None:
    """Speed is measured all the same, and skipped."""
    verdict = speed_verdict(
        "cpu", [0.01], None, 1.5, "the saved value is of calibration version 1, this is version 3"
    )
    assert (verdict.outcome, "of calibration version 1" in verdict.actual) == ("skipped", True)


def test_one_slow_epoch_does_not_fail_speed() -> None:
    """It is the median that is judged."""
    assert speed_verdict("cpu", [0.01, 0.01, 0.01, 0.5, 0.01], 0.010, 1.5, "").outcome == "pass"


def test_many_mismatches_are_counted_and_some_are_shown() -> None:
    """The line stays a line."""
    unit = BurnedUnit("training", turns=9, results=36, wrongs=8, wrong=[f"s {n}" for n in range(8)])
    assert burn_in_verdict("cpu", unit).actual == "8 wrong in 36 results: s 0; s 1; s 2 and 5 more"


def test_saved_times_of_other_machines_are_kept(tmp_path: Path) -> None:
    """Saving one machine's time leaves those of the others."""
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
    """They are not guessed at."""
    path = tmp_path / saving.CALIBRATIONS
    path.parent.mkdir()
    path.write_text('{"schema_version": 3, "machines": {}}')
    with pytest.raises(BadFile, match="schema version 3"):
        saving.load_calibrations(tmp_path)


def test_a_device_that_cannot_do_the_training_fails_and_the_rest_goes_on() -> None:
    """An operation that raises is a fact that is not golden, not an end of everything."""

    class Refusing(ProcessSlot):
        def ask(self, op: str, **args: Any) -> dict[str, Any]:
            raise OperationFailed("RuntimeError: no such kernel")

    golden = golden_of(Refusing("p0", ProcessConfig(), 0), "cpu")
    verdicts = golden_verdicts("cpu", golden)
    assert {verdict.outcome for verdict in verdicts} == {"fail"}
    assert all("no such kernel" in verdict.actual for verdict in verdicts)
