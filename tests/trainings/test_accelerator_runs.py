"""Commands on an accelerator: what passes, what is skipped, what is lost, and what checks see."""

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


def test_pinned_batches_pass(ran: Ran) -> None:
    """Those for the CPU too: where there is an accelerator, the loader pins them all."""
    assert outcomes(run_of(ran, "pinned"), "pinned memory") == {"pass"}


def test_batches_that_are_not_pinned_fail(ran: Ran) -> None:
    """In the one case whose batches are copied to other memory, and nothing else fails."""
    name = "simulated-loader-b64-pin1-drop1-w0-s0"
    found = {(check, subject) for check, subject in failed(run_of(ran, "unpinned"))}
    assert found - {("accuracy", one) for _, one in found} == {("pinned memory", name)}


# A sound run


def test_a_sound_accelerator_passes_every_check(ran: Ran) -> None:
    """Two devices, two engines, graphs: nothing fails, and the checks of devices say so."""
    run = run_of(ran, "sound")
    assert failed(run) == set()
    checks = ("parity", "arithmetic", "universal", "clock", "memory", "accuracy of arithmetic")
    assert {name: outcomes(run, name) for name in checks} == {name: {"pass"} for name in checks}


def test_a_required_device_that_is_missing_is_4(ran: Ran) -> None:
    """All others trained; the exit code says that one is missing."""
    assert ran("sound")[0].returncode == 4
    reasons = {skip.skipped for skip in run_of(ran, "sound").skips}
    assert reasons == {"no simulated:2: this machine has 2 simulated device(s)"}


def test_two_devices_of_one_model_owe_each_other_equal_bits(ran: Ran) -> None:
    """The settings table says so, and that they kept them; beside the CPU there is no such rule."""
    rows = {row.must: row for row in of_devices(run_of(ran, "sound"))}
    assert (rows["must keep"].outcome, rows["must keep"].pairs) == ("pass", 2)
    assert (rows["may change"].outcome, rows["may change"].pairs) == ("no requirement", 4)


def test_a_device_with_other_bits_than_its_twin_fails(ran: Ran) -> None:
    """Where one of two devices of one model has other epoch digests, the check is not passed."""
    run = run_of(ran, "sound")
    trainings = [
        altered(one) if one.case.id.startswith("simulated1-tensor") else one
        for one in run.trainings
    ]
    odd = msgspec.structs.replace(run, trainings=trainings)
    assert ("invariance: device", "fail") in {
        (f"{v.check}: {v.subject.split()[0]}", v.outcome) for v in judge(Evidence(odd))
    }


def test_two_devices_of_two_models_owe_each_other_nothing(ran: Ran) -> None:
    """Another model may add in another order."""
    run = run_of(ran, "sound")
    processes = [
        msgspec.structs.replace(one, machine={**one.machine, "devices": renamed(one.machine)})
        for one in run.info.processes
    ]
    info = msgspec.structs.replace(run.info, processes=processes)
    other = msgspec.structs.replace(run, info=info)
    assert [row.must for row in of_devices(other)] == ["may change"]


def of_devices(run: Run) -> list[Any]:
    """The rows of the settings table about devices."""
    return [row for row in settings_table(Evidence(run)) if row.setting == "device"]


def altered(training: TrainingRecord) -> TrainingRecord:
    """The training with another last epoch digest."""
    epoch_digests = [*training.epoch_digests[:-1], "0" * 64]
    return msgspec.structs.replace(training, epoch_digests=epoch_digests)


def renamed(machine: dict[str, Any]) -> list[dict[str, Any]]:
    """The devices of a machine, each of a model of its own."""
    return [{**device, "name": device["device"]} for device in machine["devices"]]


# What a machine lacks


def test_an_engine_that_the_device_lacks_is_skipped_with_the_reason(ran: Ran) -> None:
    """No code generator of Inductor for it: skipped, where it would fail."""
    skips = run_of(ran, "asynchronous").skips
    assert {(skip.case.engine, skip.lacks, skip.skipped) for skip in skips} == {
        ("compile", "engine", "torch.compile has no code generator for simulated devices")
    }


def test_stress_of_an_accelerator_that_is_not_there_is_refused(ran: Ran) -> None:
    """Exit code 2 and no run: nothing would have been kept busy."""
    done, folder = ran("stress of nothing")
    assert done.returncode == 2
    assert "--stress: no accelerator here to keep busy" in done.stderr
    assert list((folder / "results" / "runs").iterdir()) == []


# What goes wrong


def test_a_device_error_that_stays_costs_its_case_alone(ran: Ran) -> None:
    """Its process is ended, the case that ran is blamed, the others are trained anew."""
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


def test_an_asynchronous_error_costs_no_process(ran: Ran) -> None:
    """It comes out where the case that caused it is waited for; the process goes on."""
    run = run_of(ran, "asynchronous")
    (failure,) = run.failures
    assert "asynchronous" in failure.failed
    assert failure.case.batch_size == 96
    trained = {(one.case.engine, one.case.batch_size) for one in run.trainings}
    assert trained == {("loader", 64), ("universal", 64), ("universal", 96)}
    assert [process.died for process in run.info.processes] == [None]


def test_an_accelerator_under_stress_trains_the_same_bits(ran: Ran) -> None:
    """The run says what was kept busy."""
    run = run_of(ran, "asynchronous")
    assert run.info.stress == "accelerator"
    stressed = next(one for one in run.trainings if one.case.engine == "loader")
    quiet = next(
        one
        for one in run_of(ran, "sticky").trainings
        if (one.case.device, one.case.batch_size) == ("cpu", 64)
    )
    assert stressed.epoch_digests == quiet.epoch_digests


def test_clock_sees_a_lost_synchronization(ran: Ran) -> None:
    """Every other check passes: the epochs are four times as fast as they can be."""
    run = run_of(ran, "not waited for")
    assert {check for check, _ in failed(run)} == {"clock"}


def test_memory_sees_a_leak_on_the_device(ran: Ran) -> None:
    """What an epoch keeps is counted to the byte, long before the device is full."""
    run = run_of(ran, "leak, and addmm is off")
    assert ("memory", "simulated-loader-b64-pin0-drop1-w0-s0") in failed(run)
    (training,) = (one for one in run.trainings if one.case.device == "simulated")
    assert (training.accelerator_grown_bytes or 0) > 2**16


def test_accuracy_of_arithmetic_sees_an_operator_that_is_off_on_the_device_alone(ran: Ran) -> None:
    """`addmm`, 64 units in the last place; the CPU of the same process passes."""
    run = run_of(ran, "leak, and addmm is off")
    verdicts = judge(Evidence(run))
    found = {v.subject: v.outcome for v in verdicts if v.check == "accuracy of arithmetic"}
    assert found == {
        "cpu-loader-b64-pin0-drop1-w0-s0": "pass",
        "simulated-loader-b64-pin0-drop1-w0-s0": "fail",
    }


# Other commands


def test_a_canary_passes_on_both_devices(ran: Ran) -> None:
    """Edge cases and digests of each."""
    done, _ = ran("canary")
    assert done.returncode == 0, done.stderr
    verdicts = json.loads(done.stdout)["verdicts"]
    assert {(v["check"], v["subject"]) for v in verdicts if v["outcome"] == "pass"} == {
        (check, device)
        for check in ("arithmetic", "universal", "accuracy", *exact_probes())
        for device in ("simulated", "simulated:1")
    }


def test_a_burn_in_keeps_both_devices_busy_and_passes(ran: Ran) -> None:
    """Products, convolutions and memory of each, every element of every result."""
    done, _ = ran("burn-in")
    assert done.returncode == 0, done.stderr
    burned = json.loads(done.stdout)["burned"]
    for device in ("simulated", "simulated:1"):
        units = {unit["unit"]: unit for unit in burned[device]}
        assert {"matmul float32 256", "conv", "memory"} <= set(units)
        assert all(unit["results"] and not unit["mismatches"] for unit in units.values())


def test_a_flipped_word_of_a_devices_memory_is_named(ran: Ran) -> None:
    """Its place and its bit."""
    done, _ = ran("wrong words, and conv is off")
    assert done.returncode == 1
    assert re.search(r"mismatch on simulated: .*element \[40000\]:.*bits flipped: 7$", done.stderr,
                     re.MULTILINE)  # fmt: skip


def test_a_device_whose_products_are_one_ulp_off_fails_and_the_cpu_passes(ran: Ran) -> None:
    """One unit in the last place of every product: what training 60 epochs does not show."""
    done, _ = ran("mm is off")
    assert done.returncode == 1
    assert re.search(r"FAIL +simulated +matmul +\d+ of 178 results", done.stdout)
    assert re.search(r"FAIL +simulated: matmul float32 256 +burn-in .*again at the same place",
                     done.stdout)  # fmt: skip
    assert re.search(r"PASS +cpu +matmul", done.stdout)
    assert "FAIL  cpu" not in done.stdout


def test_a_device_whose_convolutions_are_one_ulp_off_fails(ran: Ran) -> None:
    """Each convolution of float32, by name."""
    done, _ = ran("wrong words, and conv is off")
    assert done.returncode == 1
    assert "float32 conv1d 31 by 7 padding 3, forward: 310 of 310 elements" in done.stdout


def test_a_device_lost_in_the_burn_in_is_named_and_the_others_go_on(ran: Ran) -> None:
    """Its context breaks; the CPU's units have their turns all the same."""
    done, _ = ran("lost")
    assert done.returncode == 1
    assert re.search(r"FAIL +simulated +completion +lost in the burn-in: ", done.stdout)
    assert re.search(
        r"PASS +cpu: matmul float32 256 +burn-in +\d+ results, all correct", done.stdout
    )


def test_a_saved_calibration_is_found_by_either_spelling(ran: Ran, tmp_path: Path) -> None:
    """Saved of `simulated`, it is the saved value of `simulated:0`."""
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
    """Both devices break in the middle: each fails by its own, and what had passed has passed."""
    done, _ = ran("broken")
    assert done.returncode == 1
    verdicts = json.loads(done.stdout)["verdicts"]
    for device in ("simulated", "simulated:1"):
        mine = {v["check"]: v["outcome"] for v in verdicts if v["subject"] == device}
        passed = ("arithmetic", "universal", "accuracy", "matmul")
        assert {mine[check] for check in passed} == {"pass"}
        assert mine["completion"] == "fail"


def test_a_sweep_records_which_accelerator_trained_it(ran: Ran) -> None:
    """Device and model, in its folder and in its report."""
    done, folder = ran("sweep")
    assert done.returncode == 0, done.stderr
    latest = folder / "results" / "latest"
    (process,) = json.loads((latest / "run.json").read_text())["processes"]
    (device,) = process["machine"]["devices"]
    assert (device["device"], device["name"]) == ("simulated:1", "Simulated 1")
    assert "Simulated 1" in (latest / "report.md").read_text()


def test_a_sweep_has_the_digests_of_the_oracle(ran: Ran) -> None:
    """NumPy's own reading of the universal training, seed by seed."""
    _, folder = ran("sweep")
    chunks = (folder / "results" / "latest" / "chunks.jsonl").read_text().splitlines()
    found = [sha256 for line in chunks for sha256 in json.loads(line)["sha256s"]]
    recipe = UniversalRecipe(train_size=320, test_size=50, batch_size=64, epochs=2, drop_last=True)
    assert found == spec.digests(numpy_backend.train(recipe, [0, 1, 2]).weights)


def test_two_ranks_train_on_two_devices(ran: Ran) -> None:
    """Each on its own, with the same bits: no rank differs."""
    done, folder = ran("fleet")
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "fleet" / "fleet.json").read_text())
    assert {node["device"] for node in report["nodes"]} == {"simulated:0", "simulated:1"}
    assert [f for f in report["findings"] if f["code"].startswith("XB1")] == []


def test_a_training_on_the_device_is_the_same_again(ran: Ran) -> None:
    """`check` of a script that trains there: every step, in two runs."""
    done, _ = ran("check")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["outcome"], answer["sentence"].rpartition(": ")[2]) == ("pass", "4 steps")


def test_the_generators_of_the_devices_are_recorded(ran: Ran) -> None:
    """Of each device, as those of the CPU are."""
    _, folder = ran("check")
    (record,) = (folder / "results" / "checks").glob("*/run-1/records/*-*.jsonl")
    step = json.loads(record.read_text().splitlines()[1])
    names = {identity for kind, identity, *_ in step["events"] if kind == "generator"}
    assert {"torch cpu", "torch simulated:0", "torch simulated:1"} <= names
