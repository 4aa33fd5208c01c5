"""Files of pytest-benchmark, both ways, compared with the real program."""

import json
import os
import random
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pandas as pd
import pytest
from conftest import Completed
from pytest_benchmark.stats import Stats

from xorbench.cli import main
from xorbench.records.pytest_benchmark import (
    BenchmarkFile,
    ImportInfo,
    exported,
    from_json,
    stats_of,
    to_json,
)
from xorbench.records.schema.run import Run
from xorbench.xor.compare import imported
from xorbench.xor.compare.comparison import Comparison
from xorbench.xor.matrix.matrix import expand
from xorbench.xor.matrix.recipe import Recipe

ROOT = Path(__file__).parent.parent
ONE = "cpu-loader-b128-pin0-drop1-w0-s0"
Call = Callable[..., SimpleNamespace]


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    """The command line in this process, its runs in this test's folder."""

    def run(*arguments: str, root: Path = tmp_path / "results") -> SimpleNamespace:
        monkeypatch.setattr("sys.argv", ["xorbench", *arguments, "--out", str(root)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code, out=printed.out, err=printed.err)

    return run


@pytest.fixture
def file(quick_run: Run, tmp_path: Path) -> Path:
    """An export of the quick run."""
    path = tmp_path / "export.json"
    path.write_text(to_json(quick_run))
    return path


def compared(a: Run | BenchmarkFile, b: Run | BenchmarkFile) -> Comparison:
    """Compare a run or file with another by the rule of imported files."""

    def measured(side: Run | BenchmarkFile, name: str) -> imported.Measured:
        if isinstance(side, Run):
            return imported.from_run(side)
        return imported.from_import(
            ImportInfo(
                xorbench_version="0",
                id=name,
                command="",
                started="",
                source="f",
                imported=side,
                finished="",
            )
        )

    return imported.compare(measured(a, "a"), measured(b, "b"))


def slower(run: Run, factor: float) -> Run:
    """The run with longer epochs of one case."""
    trainings = [
        msgspec.structs.replace(
            t, epoch_s=[s * (factor if t.case.id == ONE else 1) for s in t.epoch_s]
        )
        for t in run.trainings
    ]
    return msgspec.structs.replace(run, trainings=trainings)


@pytest.mark.parametrize("rounds", [*range(1, 10), 101])
def test_statistics_are_those_of_the_real_program(rounds: int) -> None:
    """Every field agrees, for each rule of the quartiles and with outliers."""
    draw = random.Random(rounds)
    real = Stats()
    for _ in range(rounds):
        real.update(draw.lognormvariate(-5, 1.5))
    stats = msgspec.to_builtins(stats_of(real.data))
    assert {key: stats[key] for key in real.fields} == pytest.approx(real.as_dict())
    assert (stats["data"], stats["iterations"]) == (real.data, 1)


def test_the_real_program_prints_an_export(call: Call, quick_folder: Path, tmp_path: Path) -> None:
    """`pytest-benchmark compare FILE` shows each case with its rounds, in its group."""
    path = tmp_path / "out.json"
    done = call("pytest-benchmark", "export", "latest", str(path), root=quick_folder)
    assert (done.code, done.out) == (0, f"{path}: 2 benchmarks\n")
    command = [Path(sys.executable).with_name("pytest-benchmark"), "compare", path]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "benchmark 'cpu batch 128': 2 tests" in shown.stdout
    (line,) = [row for row in shown.stdout.splitlines() if row.startswith(ONE)]
    assert line.split()[-2:] == ["200", "1"]  # rounds and iterations


def test_an_export_describes_its_run(quick_run: Run) -> None:
    """It has score, digest, speed, recipe and machine."""
    export = exported(quick_run)
    first, benchmark = quick_run.trainings[0], export.benchmarks[0]
    assert benchmark.extra_info == {
        "accuracy": "500/500",
        "weights_sha256": first.weights_sha256,
        "samples_per_s": 2432 / benchmark.stats.median,
        "rounds_by_process": {"p0": 100, "p1": 100},
    }
    assert export.xorbench is not None
    assert export.xorbench.recipe == quick_run.info.recipe
    assert export.machine_info["xorbench"]["torch_version"]
    assert "python_executable" not in export.machine_info["xorbench"]


def test_an_export_survives_a_round_trip(quick_run: Run) -> None:
    """Writing and reading loses nothing, including the rounds of each process."""
    file = from_json(to_json(quick_run).encode(), "FILE")
    assert file == exported(quick_run)
    assert file.benchmarks[0].processes == [
        t.epoch_s for t in quick_run.trainings if t.case.id == ONE
    ]


def elsewhere(file: Path) -> Path:
    """The export with the id and time of a different run."""
    content = json.loads(file.read_text())
    content["xorbench"]["run"] = "another"
    content["datetime"] = "another day"
    file.with_name("other.json").write_text(json.dumps(content))
    return file.with_name("other.json")


def test_an_import_is_a_run_that_report_and_compare_accept(
    call: Call, file: Path, quick_folder: Path
) -> None:
    """Its report lists what cannot be checked; runs and imports with its times are the same."""
    done = call("pytest-benchmark", "import", str(file), "--name", "brought")
    assert done.code == 0
    assert "epoch digests, calibration times, weights: nothing can be checked" in done.out
    shown = call("report", "brought")
    assert shown.code == 3
    last = [result.out.splitlines()[-1] for result in (done, shown)]
    assert last == ["NOT JUDGED: checks: none judged"] * 2
    call("pytest-benchmark", "import", str(elsewhere(file)), "--name", "other")
    wide = ("--machine-threshold", "1000")  # the machine may have been busy when it was timed
    comparison = call("compare", "brought", "other", *wide)
    assert (comparison.code, comparison.out.splitlines()[-1]) == (0, "PASS: 2 same")
    run = str((quick_folder / "latest").resolve())
    assert call("compare", run, "other", *wide).out.splitlines()[-1] == "PASS: 2 same"
    assert "raw times, judged by --machine-threshold" in comparison.out


def test_a_file_is_not_compared_with_itself(call: Call, file: Path) -> None:
    """Comparing a file with itself, by id or imported twice, is one line and exit code 2."""
    call("pytest-benchmark", "import", str(file), "--name", "brought")
    itself = call("compare", "brought", "brought")
    assert (itself.code, "the same run" in itself.err) == (2, True)
    content = json.loads(file.read_text())
    del content["xorbench"]
    file.write_text(json.dumps(content))
    for name in ("once", "twice"):
        call("pytest-benchmark", "import", str(file), "--name", name)
    copied = call("compare", "once", "twice")
    assert (copied.code, "the same file" in copied.err) == (2, True)


def test_a_file_of_the_real_program_is_accepted(call: Call, tmp_path: Path) -> None:
    """Values that only xorbench exports are missing; a single process is inconclusive."""
    (tmp_path / "test_it.py").write_text(
        "def test_it(benchmark):\n    benchmark.pedantic(sum, (range(9999),), rounds=5)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    command += ["--benchmark-json=it.json", "test_it.py"]
    subprocess.run(command, cwd=tmp_path, check=True, env=without_pytest())
    done = call("pytest-benchmark", "import", str(tmp_path / "it.json"), "--json", "--name", "it")
    (row,) = json.loads(done.out)["tables"]["benchmarks"]
    assert (row["benchmark"], row["rounds"], row["processes"]) == ("test_it.py::test_it", 5, 1)
    assert (row["accuracy"], row["weights sha256"], row["median (s) low"]) == ("", "", None)
    again = json.loads((tmp_path / "it.json").read_text()) | {"datetime": "another day"}
    (tmp_path / "again.json").write_text(json.dumps(again))
    call("pytest-benchmark", "import", str(tmp_path / "again.json"), "--name", "again")
    comparison = call("compare", "it", "again")
    assert comparison.code == 3
    step = "one process has no interval: the processes of an imported file are fixed: compare two"
    assert f"\nnext: test_it.py::test_it: {step}" in comparison.out
    assert "--processes" not in comparison.out


def test_a_file_saved_without_its_rounds_is_accepted(file: Path) -> None:
    """`--benchmark-save` stores only statistics; the median counts as one process."""
    content = json.loads(file.read_text())
    for benchmark in content["benchmarks"]:
        del benchmark["stats"]["data"]
    slim = from_json(json.dumps(content).encode(), "FILE")
    assert compared(slim, slim).outcome == "inconclusive"


def test_a_much_slower_import_fails(quick_run: Run) -> None:
    """Twice the time in one case is beyond the machine's threshold, only in that case."""
    comparison = compared(exported(steady(quick_run)), exported(slower(steady(quick_run), 2.0)))
    assert comparison.outcome == "fail"
    assert [row.subject for row in comparison.variants if row.verdict == "slower"] == [ONE]


def steady(run: Run) -> Run:
    """The run with an epoch of 7 ms and processes 0.1% apart."""
    trainings = [
        msgspec.structs.replace(
            t, epoch_s=[7e-3 * (1 + 1e-3 * (t.process == "p1"))] * len(t.epoch_digests)
        )
        for t in run.trainings
    ]
    return msgspec.structs.replace(run, trainings=trainings)


def test_different_digests_and_machines_are_reported(quick_run: Run) -> None:
    """A different digest or PyTorch is named; a value missing on one side is not a change."""
    export = exported(steady(quick_run))
    content = json.loads(msgspec.json.encode(export))
    content["benchmarks"][0]["extra_info"] |= {"weights_sha256": "0" * 64}
    del content["benchmarks"][1]["extra_info"]["accuracy"]
    content["machine_info"]["xorbench"]["torch_version"] = "9.9"
    comparison = compared(export, from_json(json.dumps(content).encode(), "FILE"))
    assert [change.what for change in comparison.changes] == ["torch_version", "weights_sha256"]


def test_different_recipes_are_not_comparable(quick_run: Run) -> None:
    """Times of two recipes never pass."""
    export = exported(quick_run)
    assert export.xorbench is not None
    changed = msgspec.structs.replace(
        export, xorbench=msgspec.structs.replace(export.xorbench, recipe_sha256="1" * 64)
    )
    assert compared(export, changed).outcome == "inconclusive"
    assert "recipes differ" in compared(export, changed).notes[0]


def test_injected_faults_are_exported(quick_run: Run) -> None:
    """The comparison of an export names the faults of its run."""
    info = msgspec.structs.replace(quick_run.info, faults=["delay:ms=1"])
    faulty = exported(msgspec.structs.replace(quick_run, info=info))
    assert "A has injected faults: delay:ms=1" in compared(faulty, quick_run).notes


def _edited(change: Callable[[Any], object]) -> Callable[[bytes], bytes]:
    """The file with its JSON changed."""

    def edit(content: bytes) -> bytes:
        value = json.loads(content)
        change(value)
        return json.dumps(value).encode()

    return edit


DAMAGES: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda _: b"", "not a file of pytest-benchmark"),
    (lambda _: b"[]", "not a file of pytest-benchmark"),
    (lambda _: b'{"benchmarks": []}', "not a file of pytest-benchmark"),
    (lambda _: b"\xff\xfe", "not a file of pytest-benchmark"),
    (lambda content: content[: len(content) // 2], "not a file of pytest-benchmark"),
    (_edited(lambda f: f["benchmarks"].clear()), "holds no benchmark"),
    (_edited(lambda f: f["benchmarks"].append(f["benchmarks"][0])), "two benchmarks named"),
    (_edited(lambda f: f["benchmarks"][0]["stats"].pop("ops")), "ops"),
    (_edited(lambda f: f["benchmarks"][0]["stats"].update(median=-1)), "median"),
    (_edited(lambda f: f["benchmarks"][0]["stats"].update(max=float("nan"))), "malformed"),
    (_edited(lambda f: f["benchmarks"][0]["stats"].update(rounds=3)), "but rounds is 3"),
    (
        _edited(lambda f: f["benchmarks"][0]["extra_info"].update(rounds_by_process={"p0": 1})),
        "does not add up",
    ),
    (_edited(lambda f: f["xorbench"]["recipe"].update(hidden=0)), "--hidden"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[message for _, message in DAMAGES])
def test_a_damaged_file_is_one_line(
    damage: Callable[[bytes], bytes], message: str, call: Call, file: Path, tmp_path: Path
) -> None:
    """The error names the file and the damage, the exit code is 2, and nothing is written."""
    file.write_bytes(damage(file.read_bytes()))
    done = call("pytest-benchmark", "import", str(file))
    assert (done.code, done.err.count("xorbench:")) == (2, 1)
    assert str(file) in done.err
    assert message in done.err
    assert not (tmp_path / "results").exists()


def test_a_failed_export_or_import_is_one_line(call: Call, file: Path, tmp_path: Path) -> None:
    """For a missing run, file or folder, and for an imported file, which is not a run."""
    call("pytest-benchmark", "import", str(file), "--name", "brought")
    export = ("pytest-benchmark", "export")
    for arguments, message in (
        ((*export, "nothing", str(tmp_path / "f.json")), "no run 'nothing'"),
        ((*export, "brought", str(tmp_path / "no" / "f.json")), "FILE: cannot write"),
        ((*export, "brought", str(tmp_path / "f.json")), "is a benchmark, not a run"),
        (("pytest-benchmark", "import", str(tmp_path / "none.json")), "FILE: cannot read"),
        (("baseline", "save", "kept", "brought"), "is a benchmark, not a run"),
    ):
        done = call(*arguments)
        assert (done.code, message in done.err) == (2, True), done.err
    assert not (tmp_path / "f.json").exists()


def test_a_run_without_a_finished_training_cannot_be_exported(
    call: Call, copied: Path, tmp_path: Path
) -> None:
    """The error is one line with exit code 2."""
    (copied / "results.jsonl").write_text("")
    done = call("pytest-benchmark", "export", copied.name, str(tmp_path / "f.json"))
    assert (done.code, "nothing to export" in done.err) == (2, True)


def test_an_anonymous_import_keeps_no_host_name(call: Call, file: Path, tmp_path: Path) -> None:
    """pytest-benchmark's `node` names the machine of the file."""
    content = json.loads(file.read_text())
    content["machine_info"]["node"] = "secret-host"
    file.write_text(json.dumps(content))
    assert call("pytest-benchmark", "import", str(file), "--anonymous").code == 0
    for path in (tmp_path / "results" / "latest").rglob("*"):
        assert not path.is_file() or b"secret-host" not in path.read_bytes(), path


def test_an_anonymous_copy_of_an_import_keeps_no_host_name(
    call: Call, file: Path, tmp_path: Path
) -> None:
    """Also if the copy is made later, from a file of another machine."""
    content = json.loads(file.read_text())
    content["machine_info"]["node"] = "secret-host"
    content["benchmarks"][0]["extra_info"]["rounds_by_process"] = None
    file.write_text(json.dumps(content))
    assert call("pytest-benchmark", "import", str(file)).code == 0
    assert call("report", "latest", "--anonymous").code in (0, 3)
    (copy,) = (tmp_path / "results" / "runs").glob("*-anonymous")
    for path in copy.rglob("*"):
        assert not path.is_file() or b"secret-host" not in path.read_bytes(), path


def test_an_edited_import_is_damaged(call: Call, file: Path, tmp_path: Path) -> None:
    """The record is validated whenever it is read."""
    call("pytest-benchmark", "import", str(file))
    info = tmp_path / "results" / "latest" / "run.json"
    info.write_text(info.read_text().replace('"rounds": 200', '"rounds": 7', 1))
    done = call("report")
    assert (done.code, "damaged" in done.err) == (2, True)


def without_pytest() -> dict[str, str]:
    """The environment without the variables that pytest and its plugins set."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}


def suite(folder: Path, *arguments: str, **variables: str) -> Completed:
    """`pytest bench` of this repository, started in another folder."""
    pytest_command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    return subprocess.run(
        [*pytest_command, "-c", ROOT / "pyproject.toml", ROOT / "bench", *arguments],
        cwd=folder,
        env=without_pytest() | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_suite_rejects_a_copy_outside_its_repository(tmp_path: Path) -> None:
    """An installed copy would hide a change of the clone; the error names both paths."""
    copy = tmp_path / "site-packages"
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "xorbench", copy / "xorbench", ignore=skipped)
    done = suite(tmp_path, "--collect-only", PYTHONPATH=str(copy))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.strip() == (
        f"ERROR: bench: xorbench is imported from {copy}, not from {ROOT}; "
        "hint: pip install --editable '.[bench]'"
    )


def test_the_suite_has_the_cases_of_run_and_the_engines() -> None:
    """All cases of a default `run`, with controls; `quick` selects the cases of `--quick`."""
    parameters = runpy.run_path(str(ROOT / "bench" / "test_cases.py"))["parameters"]()
    on_cpu = [parameter for parameter in parameters if parameter.values[0] == "cpu"]

    def trained_by_run(*, quick: bool) -> set[str]:
        return {case.id for case in expand(Recipe(), {"device": ("cpu",)}, quick=quick)}

    engines = {ONE.replace("loader", engine) for engine in ("loader", "fetch", "tensor", "replay")}
    assert {p.id for p in on_cpu} == trained_by_run(quick=False) | engines
    assert {p.id for p in on_cpu if p.marks} == trained_by_run(quick=True) | engines


@pytest.mark.trains
def test_the_suites_csv_has_a_column_per_setting(tmp_path: Path) -> None:
    """`pytest-benchmark compare --csv` prints plain values, and the saved file has only these."""
    case = ONE.replace("loader", "replay")
    done = suite(tmp_path, "-k", case, f"--benchmark-json={tmp_path / 'saved.json'}")
    assert done.returncode == 0, done.stdout
    compare = [Path(sys.executable).with_name("pytest-benchmark"), "compare", "saved.json"]
    subprocess.run([*compare, "--csv=cases.csv"], cwd=tmp_path, capture_output=True, check=True)
    (row,) = pd.read_csv(tmp_path / "cases.csv").to_dict("records")
    assert {name: row[name] for name in row if name.startswith("param:")} == {
        "param:device": "cpu",
        "param:engine": "replay",
        "param:batch_size": 128,
        "param:pin_memory": False,
        "param:drop_last": True,
        "param:num_workers": 0,
        "param:seed": 0,
    }
    (saved,) = json.loads((tmp_path / "saved.json").read_text())["benchmarks"]
    assert saved["extra_info"]["accuracy"] == "500/500"
    assert all(isinstance(value, str | float) for value in saved["extra_info"].values())
