"""Commands on an accelerator: passed, skipped and failed cases, and faults that checks detect."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import accelerators
import msgspec
import pytest
from accelerators import Ran, xorbench

from xorbench.machine.probes.table import exact_probes
from xorbench.machine.universal import numpy_backend, spec
from xorbench.machine.universal.spec import UniversalRecipe
from xorbench.records import loading
from xorbench.records.schema.run import Run
from xorbench.records.schema.training import TrainingRecord
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.analysis.settings_table import settings_table
from xorbench.xor.checks import judge


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Each command and its folder."""
    return accelerators.ran(tmp_path_factory)


def run_of(ran: Ran, name: str) -> Run:
    """The records of a command's run."""
    done, folder = ran(name)
    assert (folder / "results" / "latest").exists(), done.stderr
    return loading.load((folder / "results" / "latest").resolve())


def failed(run: Run) -> set[tuple[str, str]]:
    """Check and subject of each verdict that failed."""
    return {(v.check, v.subject) for v in judge(Evidence(run)) if v.outcome == "fail"}


def outcomes(run: Run, check: str) -> set[str]:
    """The outcomes of one check."""
    return {v.outcome for v in judge(Evidence(run)) if v.check == check}


# Pinned memory


@pytest.mark.variant
def test_pinned_batches_pass(ran: Ran) -> None:
    """Batches for the CPU are pinned too: with an accelerator, the loader pins all batches."""
    assert outcomes(run_of(ran, "pinned"), "pinned memory") == {"pass"}


def test_batches_that_are_not_pinned_fail(ran: Ran) -> None:
    """Only the case with the fault fails, and only in this check."""
    name = "simulated-loader-b64-pin1-drop1-w0-s0"
    failures = failed(run_of(ran, "unpinned"))
    accuracy = {("accuracy", subject) for _, subject in failures}
    assert failures - accuracy == {("pinned memory", name)}


# A correct run


def test_a_correct_accelerator_passes_every_check(ran: Ran) -> None:
    """Two devices, two engines, graphs: no check fails, and the checks of devices pass."""
    run = run_of(ran, "correct")
    assert failed(run) == set()
    checks = ("parity", "arithmetic", "universal", "clock", "memory", "accuracy of arithmetic")
    assert {name: outcomes(run, name) for name in checks} == {name: {"pass"} for name in checks}


def test_a_required_device_that_is_missing_is_4(ran: Ran) -> None:
    """All other devices train, and the exit code is 4."""
    assert ran("correct")[0].returncode == 4
    reasons = {skip.skipped for skip in run_of(ran, "correct").skips}
    assert reasons == {"no simulated:2: this machine has 2 simulated device(s)"}


def test_two_devices_of_the_same_model_must_have_identical_bits(ran: Ran) -> None:
    """The settings table has this requirement and passes; against the CPU there is none."""
    rows = {row.must: row for row in of_devices(run_of(ran, "correct"))}
    assert (rows["must keep"].outcome, rows["must keep"].pairs) == ("pass", 2)
    assert (rows["may change"].outcome, rows["may change"].pairs) == ("no requirement", 4)


def test_devices_of_the_same_model_with_different_bits_fail(ran: Ran) -> None:
    """The check fails if one of the two devices has different epoch digests."""
    run = run_of(ran, "correct")
    trainings = [
        altered(training) if training.case.id.startswith("simulated1-tensor") else training
        for training in run.trainings
    ]
    differing = msgspec.structs.replace(run, trainings=trainings)
    assert ("invariance: device", "fail") in {
        (f"{v.check}: {v.subject.split()[0]}", v.outcome) for v in judge(Evidence(differing))
    }


def test_devices_of_different_models_may_have_different_bits(ran: Ran) -> None:
    """A different model may sum in a different order."""
    run = run_of(ran, "correct")
    processes = [
        msgspec.structs.replace(p, machine={**p.machine, "devices": renamed(p.machine)})
        for p in run.info.processes
    ]
    info = msgspec.structs.replace(run.info, processes=processes)
    changed = msgspec.structs.replace(run, info=info)
    assert [row.must for row in of_devices(changed)] == ["may change"]


def of_devices(run: Run) -> list[Any]:
    """The rows of the settings table about devices."""
    return [row for row in settings_table(Evidence(run)) if row.setting == "device"]


def altered(training: TrainingRecord) -> TrainingRecord:
    """The training with a different last epoch digest."""
    epoch_digests = [*training.epoch_digests[:-1], "0" * 64]
    return msgspec.structs.replace(training, epoch_digests=epoch_digests)


def renamed(machine: dict[str, Any]) -> list[dict[str, Any]]:
    """The devices of a machine, each of a different model."""
    return [{**device, "name": device["device"]} for device in machine["devices"]]


# Missing features


def test_an_engine_that_the_device_lacks_is_skipped_with_the_reason(ran: Ran) -> None:
    """Inductor has no code generator for the device."""
    skips = run_of(ran, "asynchronous").skips
    assert {(skip.case.engine, skip.lacks, skip.skipped) for skip in skips} == {
        ("compile", "engine", "torch.compile has no code generator for simulated devices")
    }


def test_stress_of_a_missing_accelerator_is_an_error(ran: Ran) -> None:
    """The exit code is 2, and there is no run."""
    done, folder = ran("stress without a device")
    assert done.returncode == 2
    assert "--stress: no accelerator is available" in done.stderr
    assert list((folder / "results" / "runs").iterdir()) == []


# Faults


def test_a_permanent_device_error_fails_only_its_case(ran: Ran) -> None:
    """Its process is ended, the active case fails, and the others are trained again."""
    run = run_of(ran, "sticky")
    assert {failure.case.id.partition("-pin")[0] for failure in run.failures} == {
        "simulated-loader-b96"
    }
    assert {training.case.id.partition("-pin")[0] for training in run.trainings} == {
        "cpu-loader-b64", "cpu-loader-b96", "simulated-loader-b64",
    }  # fmt: skip
    died = [process.died for process in run.info.processes if process.died]
    assert len(died) == 1
    assert "simulated stopped working after AcceleratorError" in died[0]


def test_an_asynchronous_error_does_not_end_the_process(ran: Ran) -> None:
    """It is raised at the synchronization of the case that caused it; the process continues."""
    run = run_of(ran, "asynchronous")
    (failure,) = run.failures
    assert "asynchronous" in failure.failed
    assert failure.case.batch_size == 96
    trained = {(t.case.engine, t.case.batch_size) for t in run.trainings}
    assert trained == {("loader", 64), ("universal", 64), ("universal", 96)}
    assert [process.died for process in run.info.processes] == [None]


def test_load_on_the_accelerator_does_not_change_the_result(ran: Ran) -> None:
    """The run records the kind of load."""
    run = run_of(ran, "asynchronous")
    assert run.info.stress == "accelerator"
    loaded = next(t for t in run.trainings if t.case.engine == "loader")
    quiet = next(
        t
        for t in run_of(ran, "sticky").trainings
        if (t.case.device, t.case.batch_size) == ("cpu", 64)
    )
    assert loaded.epoch_digests == quiet.epoch_digests


def test_clock_detects_a_missing_synchronization(ran: Ran) -> None:
    """All other checks pass although the measured epochs are four times too fast."""
    run = run_of(ran, "not synchronized")
    assert {check for check, _ in failed(run)} == {"clock"}


def test_memory_detects_a_leak_on_the_device(ran: Ran) -> None:
    """The memory growth of an epoch is counted in bytes, long before the device is full."""
    run = run_of(ran, "leak, and inexact addmm")
    assert ("memory", "simulated-loader-b64-pin0-drop1-w0-s0") in failed(run)
    (training,) = (t for t in run.trainings if t.case.device == "simulated")
    assert (training.accelerator_grown_bytes or 0) > 2**16


def test_accuracy_of_arithmetic_detects_an_inexact_operator_of_the_device(ran: Ran) -> None:
    """`addmm` is off by 64 ulps on the device; the CPU of the same process passes."""
    run = run_of(ran, "leak, and inexact addmm")
    verdicts = judge(Evidence(run))
    outcome = {v.subject: v.outcome for v in verdicts if v.check == "accuracy of arithmetic"}
    assert outcome == {
        "cpu-loader-b64-pin0-drop1-w0-s0": "pass",
        "simulated-loader-b64-pin0-drop1-w0-s0": "fail",
    }


# Other commands


def test_a_canary_passes_on_both_devices(ran: Ran) -> None:
    """With the edge cases and digests of each device."""
    done, _ = ran("canary")
    assert done.returncode == 0, done.stderr
    verdicts = json.loads(done.stdout)["verdicts"]
    assert {(v["check"], v["subject"]) for v in verdicts if v["outcome"] == "pass"} == {
        (check, device)
        for check in ("arithmetic", "universal", "accuracy", *exact_probes())
        for device in ("simulated", "simulated:1")
    }


def test_a_burn_in_of_both_devices_passes(ran: Ran) -> None:
    """It checks every element of products, convolutions and memory on each device."""
    done, _ = ran("burn-in")
    assert done.returncode == 0, done.stderr
    burned = json.loads(done.stdout)["burned"]
    for device in ("simulated", "simulated:1"):
        units = {unit["unit"]: unit for unit in burned[device]}
        assert {"matmul float32 256", "conv", "memory"} <= set(units)
        assert all(unit["results"] and not unit["mismatches"] for unit in units.values())


def test_a_flipped_word_of_a_devices_memory_is_located(ran: Ran) -> None:
    """The message has its element and its bit."""
    done, _ = ran("flipped words, and inexact conv")
    assert done.returncode == 1
    assert re.search(r"mismatch on simulated: .*element \[40000\]:.*bits flipped: 7$", done.stderr,
                     re.MULTILINE)  # fmt: skip


def test_a_device_whose_products_are_one_ulp_off_fails_and_the_cpu_passes(ran: Ran) -> None:
    """A training of 60 epochs does not show this error."""
    done, _ = ran("inexact mm")
    assert done.returncode == 1
    assert re.search(r"FAIL +simulated +matmul +\d+ of 178 results", done.stdout)
    failure = r"FAIL +simulated: matmul float32 256 +burn-in .*reproduced at the same position"
    assert re.search(failure,
                     done.stdout)  # fmt: skip
    assert re.search(r"PASS +cpu +matmul", done.stdout)
    assert "FAIL  cpu" not in done.stdout


def test_a_device_whose_convolutions_are_one_ulp_off_fails(ran: Ran) -> None:
    """Each float32 convolution is named."""
    done, _ = ran("flipped words, and inexact conv")
    assert done.returncode == 1
    assert "float32 conv1d 31 by 7 padding 3, forward: 310 of 310 elements" in done.stdout


def test_after_a_device_is_lost_the_burn_in_continues_on_others(ran: Ran) -> None:
    """The lost device is named, and the CPU's units still run."""
    done, _ = ran("lost")
    assert done.returncode == 1
    assert re.search(r"FAIL +simulated +completion +lost in the burn-in: ", done.stdout)
    assert re.search(
        r"PASS +cpu: matmul float32 256 +burn-in +\d+ results, all correct", done.stdout
    )


@pytest.mark.variant
def test_a_saved_calibration_is_found_by_either_spelling(ran: Ran, tmp_path: Path) -> None:
    """The value saved for `simulated` is used for `simulated:0`."""
    _, made = ran("canary")
    shutil.copytree(made / "results", tmp_path / "results")
    done = xorbench(
        tmp_path,
        *("canary", "--devices", "simulated:0", "--probes", "training", "--json"),
        *("--machine-threshold", "1000"),
    )
    verdicts = json.loads(done.stdout)["verdicts"]
    assert [v["outcome"] for v in verdicts if v["check"] == "speed"] == ["pass"]


def test_a_canary_gives_the_next_device_a_fresh_process(ran: Ran) -> None:
    """If both devices break, each fails on its own, and earlier passes are kept."""
    done, _ = ran("broken")
    assert done.returncode == 1
    verdicts = json.loads(done.stdout)["verdicts"]
    for device in ("simulated", "simulated:1"):
        outcome = {v["check"]: v["outcome"] for v in verdicts if v["subject"] == device}
        passed = ("arithmetic", "universal", "accuracy", "matmul")
        assert {outcome[check] for check in passed} == {"pass"}
        assert outcome["completion"] == "fail"


def test_a_sweep_records_its_accelerator(ran: Ran) -> None:
    """Device and model are in its folder and in its report."""
    done, folder = ran("sweep")
    assert done.returncode == 0, done.stderr
    latest = folder / "results" / "latest"
    (process,) = json.loads((latest / "run.json").read_text())["processes"]
    (device,) = process["machine"]["devices"]
    assert (device["device"], device["name"]) == ("simulated:1", "Simulated 1")
    assert "Simulated 1" in (latest / "report.md").read_text()


def test_a_sweep_has_the_digests_of_the_oracle(ran: Ran) -> None:
    """NumPy's implementation of the universal training gives the same digest for each seed."""
    _, folder = ran("sweep")
    chunks = (folder / "results" / "latest" / "chunks.jsonl").read_text().splitlines()
    sha256s = [sha256 for line in chunks for sha256 in json.loads(line)["sha256s"]]
    recipe = UniversalRecipe(train_size=320, test_size=50, batch_size=64, epochs=2, drop_last=True)
    assert sha256s == spec.digests(numpy_backend.train(recipe, [0, 1, 2]).weights)


def test_two_ranks_train_on_two_devices(ran: Ran) -> None:
    """Each has its own device, and their bits are identical."""
    done, folder = ran("fleet")
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "fleet" / "fleet.json").read_text())
    assert {node["device"] for node in report["nodes"]} == {"simulated:0", "simulated:1"}
    assert [f for f in report["findings"] if f["code"].startswith("XB1")] == []


def test_a_training_on_the_device_is_reproducible(ran: Ran) -> None:
    """`check` of a script that trains there passes for every step."""
    done, _ = ran("check")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["outcome"], answer["sentence"].rpartition(": ")[2]) == ("pass", "4 steps")


def test_the_generators_of_the_devices_are_recorded(ran: Ran) -> None:
    """The generator of each device is recorded like the CPU's."""
    _, folder = ran("check")
    (record,) = (folder / "results" / "checks").glob("*/run-1/records/*-*.jsonl")
    step = json.loads(record.read_text().splitlines()[1])
    names = {identity for kind, identity, *_ in step["events"] if kind == "generator"}
    assert {"torch cpu", "torch simulated:0", "torch simulated:1"} <= names
