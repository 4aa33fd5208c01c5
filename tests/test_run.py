"""`run` from end to end: real processes, real files, every exit code."""

import json
import os
import re
import signal
import socket
import subprocess
from collections import deque
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
import torch
from conftest import (
    Completed,
    Reported,
    Xorbench,
    call_in,
    command,
    once,
    reported,
    run_in,
    wait_for_epochs,
)

from xorbench.cli import main
from xorbench.records import folders, loading
from xorbench.records.schema.run import Run
from xorbench.runtime.process import Process
from xorbench.xor.matrix.case import DEVICE_TYPES
from xorbench.xor.run import runner

# The cheapest real run: one or two cases for a few epochs, too few to learn XOR.
TINY = ("run", "--quick", "--epochs", "2", "--processes", "1")


def lacking_device() -> str:
    """A device that this machine does not have."""
    present = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return next(
        d for d in ("xpu", "mps") if d in DEVICE_TYPES and (not present or d != present.type)
    )


def verdicts(results: Path) -> list[dict[str, str]]:
    """The verdicts of the newest run."""
    found: list[dict[str, str]] = json.loads((results / "latest" / "verdicts.json").read_text())
    return found


def test_a_run_leaves_the_files_of_the_contract(quick_folder: Path) -> None:
    """Every file that other programs rely on is there, and nothing half written."""
    names = {path.name for path in (quick_folder / "latest").iterdir()} - {".lock"}
    assert names == {
        "run.json", "epochs.jsonl", "calibrations.jsonl", "results.jsonl", "verdicts.json",
        "throughput.csv", "accuracy.csv", "determinism.csv", "float64_error.csv",
        "cost_model.csv", "phases.csv", "phases.jsonl", "report.md", "report.html", "plots",
        "logs", "weights",
        "boundary_points.json", "float64.jsonl", "system_samples.jsonl", "golden_inputs.jsonl",
    }  # fmt: skip
    assert (quick_folder / "latest").is_symlink()


def test_every_epoch_is_recorded_with_its_warm_up_apart(quick_run: Run) -> None:
    """Two cases, two processes: 100 timed epochs each, and two marked as warm-up."""
    timed = [line for line in quick_run.epochs if not line.warmup]
    assert len(timed) == 2 * 2 * 100
    assert len(quick_run.epochs) - len(timed) == 2 * 2 * 2
    assert all(line.epoch_s > 0 for line in timed)


def test_rounds_visit_the_cases_in_changing_order(quick_run: Run) -> None:
    """Epochs are interleaved: each round steps every case, in an order that is not always one.

    Two processes, one after the other, of two cases each: eight orders.
    """
    timed = [line for line in quick_run.epochs if not line.warmup]
    rounds = [timed[at : at + 4] for at in range(0, len(timed), 4)]
    assert all({line.epoch for line in one} == {number} for number, one in enumerate(rounds))
    orders = {tuple((line.process, line.case) for line in one) for one in rounds}
    assert len(orders) == 8
    assert all(one[0][0] == one[1][0] and one[2][0] == one[3][0] for one in orders)


def test_each_turn_begins_with_a_cold_calibration_that_stands_beside_no_epoch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It warms the caches; an epoch stands beside the median of the last three others."""
    told: list[tuple[str, str, float]] = []
    ask, shuffled = Process.ask, runner.shuffled

    def heard(process: Process, op: str, **args: Any) -> dict[str, Any]:
        answer = ask(process, op, **args)
        told.append((process.name, op, answer.get("calibration_s", 0.0)))
        return answer

    def seen(items: Any, seed: int, *what: int | str) -> Any:
        if len(what) == 2:  # a round, and a process in it
            told.append((str(what[1]), "turn", 0.0))
        return shuffled(items, seed, *what)

    monkeypatch.setattr(Process, "ask", heard)
    monkeypatch.setattr(runner, "shuffled", seen)
    monkeypatch.setattr("sys.argv", ["xorbench", *TINY[:4], "--no-phases", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    begun = next(at for at, act in enumerate(told) if act[1] == "turn") - 1
    warm: dict[str, deque[float]] = {name: deque(maxlen=3) for name in ("p0", "p1")}
    beside: dict[str, list[float]] = {"p0": [], "p1": []}
    turns = 0
    for (process, op, seconds), following in pairwise(told[begun:]):
        if following[1] == "turn":
            assert (process, op) == (following[0], "calibration")
            turns += 1
        elif op == "calibration":
            warm[process].append(seconds)
        elif op == "step":
            beside[process].append(median(warm[process]))
    run = loading.load((tmp_path / "latest").resolve())
    assert turns == 2 * 2  # two rounds of two processes
    known = {(t.process, t.case.id): t.calibration_s for t in run.trainings}
    timed = [line for line in run.epochs if not line.warmup]
    assert beside == {
        name: [known[name, x.case][x.epoch] for x in timed if x.process == name] for name in beside
    }
    mine = [x.cold for x in run.calibrations if x.process == "p0"]
    assert (mine[0], sum(mine)) == (True, 2)


def test_training_lines_are_made_of_the_epochs(quick_run: Run) -> None:
    """It has their digests, losses and times, of which results.jsonl has no copy."""
    for training in quick_run.trainings:
        mine = [
            line
            for line in quick_run.epochs
            if (line.process, line.case) == (training.process, training.case.id) and not line.warmup
        ]
        assert training.epoch_digests == [line.digest for line in mine]
        assert training.losses == [line.loss for line in mine]
        assert training.epoch_s == [line.epoch_s for line in mine]


def test_saved_weights_load_safely_and_have_the_recorded_digest(
    quick_folder: Path, quick_run: Run
) -> None:
    """`--save-weights` leaves a state_dict that `weights_only=True` reads, digest and all."""
    from xorbench.xor.training.tensor_digest import state_sha256

    for training in quick_run.trainings:
        path = quick_folder / "latest" / "weights" / f"{training.process}-{training.case.id}.pt"
        state = torch.load(path, weights_only=True)
        assert state_sha256(state) == training.weights_sha256


def test_processes_train_deterministically_and_say_so(quick_run: Run) -> None:
    """The flag, the cuBLAS workspace and the peak memory of each process are on record."""
    for process in quick_run.info.processes:
        assert process.machine["deterministic"] is True
        assert process.machine["environment"]["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert process.peak_rss_bytes is not None
        assert process.peak_rss_bytes > 50 * 2**20


def test_report_makes_the_tables_again_from_the_files_alone(
    copied: Path, xorbench: Xorbench
) -> None:
    """With every table deleted, `report` writes the same ones."""
    made = ("report.md", "throughput.csv", "accuracy.csv", "determinism.csv", "verdicts.json")
    before = {name: (copied / name).read_bytes() for name in made}
    for name in made:
        (copied / name).unlink()
    done = xorbench("report", copied.name[:14])
    assert done.returncode == 0, done.stderr
    assert "500" in done.stdout
    assert before == {name: (copied / name).read_bytes() for name in made}


def test_a_run_is_found_by_name_prefix_path_and_latest(quick_folder: Path) -> None:
    """RUN may be any of them."""
    folder = (quick_folder / "latest").resolve()
    for text in ("first", folder.name, folder.name[:10], "latest", str(folder)):
        assert folders.find(quick_folder, text) == folder


def test_every_option_at_once(xorbench: Xorbench, tmp_path: Path) -> None:
    """Options combine: axes, recipe, settings, places, and output for programs."""
    done = xorbench(
        *("run", "--devices", "cpu", "--batch-sizes", "50,100", "--pin-memory", "false"),
        *("--drop-last", "true,false", "--seeds", "0-1,5", "--num-workers", "0", "--epochs", "2"),
        *("--non-blocking", "true", "--train-size", "300", "--test-size", "20"),
        *("--std", "0.05", "--hidden", "3", "--lr", "0.2", "--lr-scaling", "sqrt"),
        *("--threads", "1", "--deterministic", "true,false", "--processes", "1", "--timeout", "60"),
        *("--schedule-seed", "4", "--out", "elsewhere", "--name", "all", "--anonymous", "--json"),
    )
    assert done.returncode == 1, done.stderr  # two epochs do not learn XOR
    answer = json.loads(done.stdout)
    assert len(answer["tables"]["throughput"]) == 2 * 2 * 3 * 2
    run = loading.load(folders.find(tmp_path / "elsewhere", "all"))
    assert run.info.recipe.hidden == 3
    assert {"accuracy"} == {v["check"] for v in answer["verdicts"] if v["outcome"] == "fail"}
    assert {training.test.total for training in run.trainings} == {20}


def test_an_honest_failure_exits_1_and_names_the_remedy(xorbench: Xorbench) -> None:
    """Batch 512 does not get there in 100 epochs: 375/500, with options that do."""
    done = xorbench(
        *("run", "--batch-sizes", "512", "--pin-memory", "false", "--drop-last", "true"),
        *("--processes", "1"),
    )
    assert done.returncode == 1
    line = next(line for line in done.stdout.splitlines() if line.startswith("FAIL accuracy"))
    assert re.search(r"\b3\d\d/500 \(expected 500/500\)", line)
    assert "--epochs" in line
    assert "--lr-scaling linear" in line


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """An anonymous run at a rate that is far too high, where a user has hooks of Python's own."""

    def make(folder: Path) -> Completed:
        home, hooks = folder / "Alice Smith", folder / "hooks"
        home.mkdir()
        hooks.mkdir()
        script = f"import sys\nwith open({str(folder / 'seen')!r}, 'a') as f:\n"
        (hooks / "sitecustomize.py").write_text(f"{script}    print(sys.orig_argv, file=f)\n")
        given = ("--drop-last", "true", "--lr", "1000", "--anonymous", "--out", f"{home}/results")
        paths = os.pathsep.join(["hooks", os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        own = {**os.environ, "HOME": str(home), "PYTHONPATH": paths}
        return run_in(folder, *TINY, *given, env=own)

    return reported(tmp_path_factory, "private", make)


@pytest.fixture(scope="module")
def required(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """A run of a device that is required and missing, with a weight that is not a number."""
    words = ("--devices", f"cpu,{lacking_device()}", "--require-devices", "--drop-last", "true")
    fault = ("--inject", "nan-weight:epoch=1,step=3")
    return reported(
        tmp_path_factory, "required", lambda folder: call_in(folder, *TINY, *words, *fault)
    )


def said_of_accuracy(done: Completed) -> str:
    """The line of the check that failed."""
    return next(line for line in done.stdout.splitlines() if line.startswith("FAIL accuracy"))


def test_a_rate_that_is_too_high_is_told_and_not_to_train_longer(private: Reported) -> None:
    """A real run at a rate that is far too high."""
    assert private.done.returncode == 1, private.done.stderr
    assert "lr 1000 may be too high here: try a lower --lr" in said_of_accuracy(private.done)
    assert "--epochs" not in said_of_accuracy(private.done)


def test_a_weight_that_is_no_number_is_told_and_not_to_train_longer(required: Reported) -> None:
    """A real run in which one is damaged: after which epoch, and what may be the cause."""
    said = "weights are not finite after epoch 1 (expected 500/500); hint: lr 0.1 may be too high"
    assert said in said_of_accuracy(required.done)
    assert "--epochs" not in said_of_accuracy(required.done)


def test_engines_that_learn_too_little_are_not_right(inside: Xorbench, tmp_path: Path) -> None:
    """The universal training is judged as any other: 40 epochs are too few for it."""
    done = inside(*TINY, "--epochs", "40", "--drop-last", "true", "--engines", "universal")
    assert done.returncode == 1, done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("FAIL accuracy"))
    assert "the device computes correctly (see universal), but not every point is learned" in line
    page = (tmp_path / "results" / "latest" / "report.html").read_text()
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    assert re.search(r"Is it correct\? No\W", words)


def test_the_named_remedy_works(inside: Xorbench) -> None:
    """With linear scaling the same case reaches 500/500."""
    done = inside(
        *("run", "--batch-sizes", "512", "--pin-memory", "false", "--drop-last", "true"),
        *("--processes", "1", "--lr-scaling", "linear"),
    )
    assert done.returncode == 0, done.stdout


def test_a_missing_device_is_skipped_with_the_reason(inside: Xorbench, tmp_path: Path) -> None:
    """The last lines name it, no table has an empty row, and the other device is judged."""
    device = lacking_device()
    done = inside(*TINY[:2], "--devices", f"cpu,{device}", "--processes", "1", "--epochs", "40")
    assert done.returncode == 0, done.stderr
    *_, missing, verdict = done.stdout.splitlines()
    assert missing.startswith(f"{device.upper()}: not tested (2 cases): this PyTorch (")
    assert verdict.startswith("PASS: ")
    assert done.stderr.splitlines()[-1].endswith("/report.html")
    for name in ("throughput", "accuracy", "determinism"):
        frame = pd.read_csv(tmp_path / "results" / "latest" / f"{name}.csv")
        assert frame["case"].str.startswith("cpu-").all()


def test_a_required_device_that_is_missing_exits_4(required: Reported) -> None:
    """With --require-devices the reason is there, and the code is 4, whatever else fails."""
    assert required.done.returncode == 4
    assert f"\n{lacking_device().upper()}: not tested (1 case): " in required.done.stdout
    assert "\nDEVICE MISSING: checks: " in required.done.stdout
    assert call_in(required.folder, "report").returncode == 4


def test_a_run_in_which_nothing_was_trained_exits_3(inside: Xorbench) -> None:
    """Nothing judged is never a pass."""
    done = inside(*TINY, "--devices", lacking_device())
    assert done.returncode == 3, done.stderr


def test_pinning_without_an_accelerator_is_a_labelled_control(
    inside: Xorbench, tmp_path: Path
) -> None:
    """It is trained all the same, keeps the bits, and its rows say what it is."""
    if torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator: pinning acts")
    inside(*TINY, "--pin-memory", "false,true", "--drop-last", "true")
    frame = pd.read_csv(tmp_path / "results" / "latest" / "throughput.csv").set_index("case")
    note = frame.loc["cpu-loader-b128-pin1-drop1-w0-s0", "note"]
    assert "no effect here: PyTorch ignores pin_memory without an accelerator" in note
    kept = [v for v in verdicts(tmp_path / "results") if v["check"] == "invariance"]
    assert [(v["outcome"], v["actual"]) for v in kept] == [("pass", "kept")]


def test_a_dry_run_trains_and_writes_nothing(inside: Xorbench, tmp_path: Path) -> None:
    """It lists the cases, controls included, the process configs, and an estimate."""
    done = inside("run", "--devices", "cpu", "--threads", "1,2", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    names = [case["case"] for case in answer["cases"]]
    assert len(names) == 4 * 2 * 2 + 3
    assert "cpu-loader-b125-pin0-drop0-w0-s0" in names
    assert "cpu-loader-b128-pin0-drop1-w2-s0" in names
    assert [config["config"] for config in answer["configs"]] == ["base", "threads=2"]
    assert answer["processes"] == 4
    assert (answer["cases_to_run"], answer["not_tested"]) == (len(names), [])
    assert answer["estimate_s"] > 1
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_counts_the_cases_that_will_run(inside: Xorbench) -> None:
    """Those of a missing device are counted apart, with the reason."""
    device = lacking_device()
    done = inside("run", "--quick", "--devices", f"cpu,{device}", "--dry-run")
    *_, missing, size = done.stdout.splitlines()
    assert missing.startswith(f"{device.upper()}: not tested (2 cases): this PyTorch (")
    assert size.startswith("2 cases in each of 2 processes, about ")


def test_an_anonymous_run_names_neither_host_nor_path(private: Reported) -> None:
    """No file holds the host's name, an absolute path or a home, and every picture is whole."""
    latest = private.folder / "Alice Smith" / "results" / "latest"
    for picture in (latest / "plots").iterdir():
        ElementTree.parse(picture)
    for path in latest.resolve().rglob("*"):
        text = path.read_text() if path.is_file() else ""
        for secret in (socket.gethostname(), str(private.folder), "Alice", "Smith", os.sep + "usr"):
            assert secret not in text, path


def test_two_runs_at_once_do_not_touch_each_other(tmp_path: Path) -> None:
    """Started into the same folder in the same second, each has its own complete run.

    Each has an interleaving of its own, which moves no bit.
    """
    quiet = subprocess.DEVNULL
    both = [
        subprocess.Popen(
            command(*TINY, "--schedule-seed", seed), cwd=tmp_path, stderr=quiet, stdout=quiet
        )
        for seed in "12"
    ]
    assert [process.wait() for process in both] == [1, 1]
    folders = list((tmp_path / "results" / "runs").iterdir())
    assert len(folders) == 2
    first, second = (loading.load(folder) for folder in folders)
    assert not first.unfinished + second.unfinished
    assert [t.epoch_digests for t in sorted(first.trainings, key=lambda t: t.case.id)] == [
        t.epoch_digests for t in sorted(second.trainings, key=lambda t: t.case.id)
    ]


# One run with a fault for every check, each injected in a case of its own.
INJECTED = {
    "flip-data:bit=25,process=1,phase=both": "cpu-loader-b120-pin0-drop1-w0-s0",
    "crash:epoch=1,process=1": "cpu-loader-b120-pin1-drop0-w0-s0",
    "flip-weight:epoch=2,step=3,element=2,bit=20,process=1": "cpu-loader-b128-pin0-drop1-w0-s0",
    "skip-batch:epoch=1,step=4,phase=warm-up": "cpu-loader-b128-pin0-drop0-w0-s0",
    "draw-extra:epoch=0,phase=warm-up": "cpu-loader-b64-pin0-drop1-w0-s0",
    "reload-flip:bit=22": "cpu-loader-b128-pin1-drop1-w0-s0",
    "drop-ignored:phase=both": "cpu-loader-b120-*",
    "pin-draws:phase=both": "cpu-loader-b128-*",
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What failed in a run with all those faults, and subnormals flushed besides: by check."""
    injections = [("--inject", f"{fault},cases={cases}") for fault, cases in INJECTED.items()]

    def make(folder: Path) -> None:
        done = run_in(
            folder,
            *("run", "--batch-sizes", "64,120,128", "--epochs", "3"),
            *("--inject", "flush-subnormals", "--inject", "other-tanh"),
            *(part for inject in injections for part in inject),
        )
        assert done.returncode == 1, done.stderr
        assert "INJECTED FAULTS" in done.stdout

    folder = once(tmp_path_factory, "faulty", make)
    failed: dict[str, set[str]] = {}
    for verdict in verdicts(folder / "results"):
        if verdict["outcome"] == "fail":
            failed.setdefault(verdict["check"], set()).add(verdict["subject"])
    return failed


@pytest.mark.parametrize(
    ("check", "subjects"),
    [
        ("completion", {"cpu-loader-b120-pin1-drop0-w0-s0", "process p1"}),
        ("inputs", {"seed 0"}),
        ("rerun", {"cpu-loader-b120-pin0-drop1-w0-s0", "cpu-loader-b128-pin0-drop1-w0-s0"}),
        ("warm-up", {"cpu-loader-b128-pin0-drop0-w0-s0", "cpu-loader-b64-pin0-drop1-w0-s0"}),
        ("save and load", {"cpu-loader-b128-pin1-drop1-w0-s0"}),
        ("arithmetic", {"cpu in p0", "cpu in p1"}),
        ("probes", {"cpu in p0"}),
        ("universal", {"cpu in p0", "cpu in p1"}),
        (
            "invariance",
            {
                "drop_last false,true: cpu-loader-b120-pin0-drop0-w0-s0",
                "drop_last false,true: cpu-loader-b120-pin1-drop0-w0-s0",
                "pin_memory false,true: cpu-loader-b128-pin0-drop0-w0-s0",
                "pin_memory false,true: cpu-loader-b128-pin0-drop1-w0-s0",
            },
        ),
    ],
)
def test_each_check_fails_on_its_injected_fault_and_nowhere_else(
    check: str, subjects: set[str], faulty: dict[str, set[str]]
) -> None:
    """Exactly the injected cases and edges fail the check; a hundred others pass it."""
    assert subjects == faulty[check]


def test_faults_raise_no_other_alarm(faulty: dict[str, set[str]]) -> None:
    """Three epochs do not learn XOR; besides that only the checks above failed."""
    assert set(faulty) == {
        "accuracy", "completion", "inputs", "rerun", "warm-up", "save and load", "arithmetic",
        "universal", "invariance", "golden inputs", "accuracy of arithmetic", "probes",
    }  # fmt: skip


def test_a_loader_process_with_noise_of_its_own_breaks_its_edge(
    inside: Xorbench, tmp_path: Path
) -> None:
    """Fetched by other processes the points differ: the num_workers edges break, no others."""
    inside(
        *(*TINY, "--num-workers", "0,2"),
        *("--inject", "worker-noise:phase=both"),
    )
    edges = [v for v in verdicts(tmp_path / "results") if v["check"] == "invariance"]
    broken = {v["subject"].split()[0] for v in edges if v["outcome"] == "fail"}
    whole = {v["subject"].split()[0] for v in edges if v["outcome"] == "pass"}
    assert (broken, whole) == ({"num_workers"}, {"drop_last"})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_is_an_interruption_like_ctrl_c(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM or SIGHUP leaves a partial report, prints how to resume, and exits 130."""
    process = subprocess.Popen(
        command(*TINY[:2], "--epochs", "100000", "--processes", "1"),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for_epochs(tmp_path / "results", 30)
    process.send_signal(number)
    output, errors = process.communicate()
    assert process.returncode == 130
    assert "--resume" in errors
    assert "unfinished" in output
    report = (tmp_path / "results" / "latest" / "report.md").read_text()
    assert "of 100000 epochs" in report


def test_sigterm_at_start_up_leaves_nothing(tmp_path: Path) -> None:
    """Before a run has begun there is nothing to keep: exit 130, no folder."""
    process = subprocess.Popen(
        command("run", "--quick"), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    runs = tmp_path / "results" / "runs"
    while not (runs.exists() and any(runs.glob("*/logs/p0.log"))):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert (process.returncode, errors.strip()) == (130, "xorbench: interrupted")
    assert list(runs.iterdir()) == []


def test_steps_too_small_to_move_a_weight_accuse_nobody(inside: Xorbench, tmp_path: Path) -> None:
    """At lr 1e-30 every setting keeps the bits: what must change them changes none."""
    inside("run", "--quick", "--epochs", "2", "--lr", "1e-30", "--processes", "1")
    edges = [v for v in verdicts(tmp_path / "results") if v["check"] == "invariance"]
    assert [(v["outcome"], v["actual"]) for v in edges] == [("skipped", "kept")]


def test_a_reader_that_goes_away_changes_neither_work_nor_code(
    copied: Path, tmp_path: Path
) -> None:
    """Closed pipes: `report` keeps its exit code, `run` trains to its end."""
    for arguments in (["report", str(copied)], [*TINY]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            command(*arguments), cwd=tmp_path, stdout=writer, stderr=writer, check=False
        )
        os.close(writer)
        assert done.returncode == (0 if arguments[0] == "report" else 1)
    assert loading.load((tmp_path / "results" / "latest").resolve()).info.finished


def test_no_space_for_the_output_is_one_clear_line(copied: Path, tmp_path: Path) -> None:
    """A full device under standard output is said, not thrown."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("report", str(copied)),
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("xorbench: standard output: cannot write: no space")


def test_a_relative_pythonpath_reaches_the_processes(private: Reported) -> None:
    """A `sitecustomize` of the user's is seen by the process that trains."""
    assert "xorbench.process" in (private.folder / "seen").read_text()


@pytest.mark.parametrize("verb", [["run", "--quick"], ["sweep", "--seeds", "0-3"], ["canary"]])
def test_no_answer_in_time_is_never_a_traceback(verb: list[str], inside: Xorbench) -> None:
    """A process that is silent before any training: one line or one verdict, exit 1."""
    done = inside(*verb, "--timeout", "1e-9")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no answer within 1e-09 s" in done.stderr + done.stdout


def test_env_shows_host_and_process_without_their_names(xorbench: Xorbench) -> None:
    """What to paste into a bug report: JSON, versions, no host name or path with --anonymous."""
    done = xorbench("env", "--anonymous")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["process"]["torch_version"] == torch.__version__
    assert shown["host"]["cores_logical"] >= 1
    assert socket.gethostname() not in done.stdout
    assert str(Path.home()) not in done.stdout


def test_list_shows_configs_recipe_and_checks(inside: Xorbench) -> None:
    """For people and for programs the same rows."""
    shown = json.loads(inside("list", "--json").stdout)
    assert {"--devices", "--batch-sizes", "--threads"} <= {r["option"] for r in shown["settings"]}
    text = inside("list").stdout
    for rows in shown.values():
        assert all(next(iter(row.values())) in text for row in rows)
