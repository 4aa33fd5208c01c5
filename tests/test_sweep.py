"""`sweep` from end to end: counts are independent of machine, backend, chunk size and cores."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from conftest import Xorbench, call_in, command, once, run_in
from gfm import problems
from test_bad_input import complaint

import xorbench as package
from xorbench.machine.sweep import plots, report
from xorbench.machine.sweep.results import answers, count, judge
from xorbench.machine.universal import numpy_backend, spec
from xorbench.machine.universal.spec import UniversalRecipe
from xorbench.machine.universal.sweep_plan import BACKENDS, SweepPlan, default_chunk
from xorbench.records import loading
from xorbench.records.schema.line import SCHEMA_VERSION
from xorbench.records.schema.sweep import SweepInfo
from xorbench.stats.intervals import quantile, wilson
from xorbench.verdicts import exit_code, failed
from xorbench.xor.matrix.recipe import Recipe

TABLES = ("sweep.csv", "scores.csv", "epochs.csv")
# Some seeds learn it within these epochs at batch 32, none at batch 250, whose short batch is kept.
SMALL = (
    *("sweep", "--seeds", "0-17,38", "--batch-sizes", "32,250", "--epochs", "12"),
    *("--drop-last", "false"),
)
# Many chunks of a few hundredths of a second, so that there is always one to interrupt.
LONG = ("sweep", "--seeds", "0-767", "--chunk", "16", "--threads", "1")


def tables(results: Path) -> dict[str, bytes]:
    """The bytes of the tables that must be equal everywhere."""
    return {name: (results / "latest" / name).read_bytes() for name in TABLES}


def made_by(folder: Path, *arguments: str, **options: Any) -> dict[str, bytes]:
    """The tables of one sweep in its own folder."""
    folder.mkdir()
    done = call_in(folder, *arguments, **options)
    assert done.returncode == 0, done.stderr
    return tables(folder / "results")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `results` folder of a real sweep with golden values; read-only."""

    def make(folder: Path) -> None:
        given = ("--seeds", "0-259", "--batch-sizes", "128,256", "--name", "one")
        done = run_in(folder, "sweep", *given)
        assert done.returncode == 0, done.stderr

    return once(tmp_path_factory, "swept", make) / "results"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of the small sweep with numba."""
    given = (*SMALL, "--backend", "numba", "--threads", "1")
    folder = once(tmp_path_factory, "small", lambda folder: made_by(folder / "x", *given))
    return tables(folder / "x" / "results")


@pytest.fixture
def copied(swept: Path, tmp_path: Path) -> Path:
    """A copy of the sweep's folder for changes."""
    target = tmp_path / "results" / "runs" / (swept / "latest").resolve().name
    shutil.copytree(swept / "latest", target)
    return target


def verdicts(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The verdicts of a sweep by check and variant."""
    rows: list[dict[str, str]] = json.loads((folder / "verdicts.json").read_text())
    return {(verdict["check"], verdict["subject"]): verdict for verdict in rows}


# Counts


@pytest.mark.parametrize(
    "options",
    [
        ("--backend", "numba", "--threads", "2", "--chunk", "5"),
        ("--backend", "torch", "--threads", "2", "--chunk", "7"),
        ("--backend", "numpy", "--chunk", "19"),
    ],
    ids=["numba", "torch", "numpy"],
)
def test_tables_are_identical_for_every_backend_chunk_and_thread_count(
    options: tuple[str, ...], small: dict[str, bytes], tmp_path: Path
) -> None:
    """All bytes are equal, including the combined digest."""
    assert made_by(tmp_path / "other", *SMALL, *options) == small


def test_the_counts_are_those_of_the_oracle(small: dict[str, bytes], tmp_path: Path) -> None:
    """Scores, epochs and digest equal a plain loop over the oracle's models."""
    for name, content in small.items():
        (tmp_path / name).write_bytes(content)
    recipe = UniversalRecipe(batch_size=32, epochs=12, drop_last=False)
    trained = numpy_backend.train(recipe, [*range(18), 38], score_epochs=True)
    correct = [[score == 500 for score in history] for history in trained.epoch_correct.T.tolist()]
    firsts = [history.index(True) if True in history else None for history in correct]
    row = pd.read_csv(tmp_path / "sweep.csv").set_index("batch_size").loc[32]
    assert row["seeds"] == 19
    assert row["all correct"] == sum(history[-1] for history in correct)
    assert 0 < row["all correct"] < 19
    assert row["never"] == firsts.count(None) > 0
    assert row["lost at the end"] == sum(any(h) and not h[-1] for h in correct)
    assert row["later lost"] == sum(False in h[h.index(True) :] for h in correct if True in h)
    assert row["first epoch median"] == sorted(99 if f is None else f for f in firsts)[9]
    assert row["combined sha256"] == spec.combined_sha256(trained.digests())
    scores = pd.read_csv(tmp_path / "scores.csv").query("batch_size == 32")
    counts = np.unique(trained.correct, return_counts=True)
    assert dict(zip(scores["correct"], scores["seeds"], strict=True)) == dict(
        zip(*(part.tolist() for part in counts), strict=True)
    )
    assert scores["accuracy"].tolist() == (scores["correct"] / scores["total"]).tolist()
    epochs = pd.read_csv(tmp_path / "epochs.csv").query("batch_size == 32")
    assert epochs["all correct"].tolist() == np.sum(correct, axis=0).tolist()
    assert epochs["for the first time"].tolist() == [firsts.count(e) for e in range(12)]


def test_golden_values_pass_with_seeds_that_fail_to_learn(
    swept: Path,
) -> None:
    """Exit code 0 with 250 of the first 256 seeds all correct, and the golden digests."""
    by_check = verdicts(swept / "latest")
    assert {verdict["outcome"] for verdict in by_check.values()} == {"pass"}
    assert by_check["golden", "batch 128"]["expected"] == "the golden values of 32 seeds"
    assert by_check["golden", "batch 256"]["expected"] == "the golden values of 8 seeds"
    assert "250 all correct" in by_check["golden combined", "batch 128"]["expected"]
    rows = pd.read_csv(swept / "latest" / "sweep.csv")
    assert (rows["all correct"] < rows["seeds"]).all()


def test_a_sweep_ends_with_the_three_answers(swept: Path) -> None:
    """They give the number of learning seeds, the golden values, and an unjudged speed."""
    folder = (swept / "latest").resolve()
    info = loading.read_kind(folder, SweepInfo)
    evidence = count(info, loading.chunks(folder, info), [])
    right, same, fast = answers(evidence, judge(evidence))
    assert (right.outcome, same.outcome, fast.outcome) == ("pass", "pass", "skipped")
    tally = evidence.tallies[0]
    assert f"{tally.all_correct:,} of {tally.seeds:,} seeds learn it" in right.sentence
    assert "golden values of 32 seeds, and seeds 0-255 combined" in same.sentence
    wrong = [v for v in judge(evidence) if v.check == "completion"]
    lost = [failed("golden", "batch 128", "the golden values", "seed 3: others"), *wrong]
    assert answers(evidence, lost)[1].outcome == "fail"
    assert answers(evidence, lost)[1].sentence == "batch 128: seed 3: others"
    assert answers(evidence, lost)[0].outcome == "fail"
    assert answers(evidence, wrong)[0].outcome == "skipped"  # trained, but without golden values


def test_a_recipe_without_golden_values_is_counted(inside: Xorbench, tmp_path: Path) -> None:
    """The check is skipped with the reason; a seed that does not learn is exit 0."""
    done = inside("sweep", "--seeds", "5", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert "1 skipped" in done.stdout
    row = pd.read_csv(tmp_path / "results" / "latest" / "sweep.csv").iloc[0]
    assert (row["all correct"], row["never"]) == (0, 1)
    assert pd.isna(row["first epoch median"])
    assert "never" in done.stdout


# It can fail


def change_line(folder: Path, change: Callable[[dict[str, Any]], None], number: int = 0) -> None:
    """Change the record on one line of `chunks.jsonl`."""
    path = folder / "chunks.jsonl"
    lines = path.read_text().splitlines()
    record = json.loads(lines[number])
    change(record)
    lines[number] = json.dumps(record)
    path.write_text("\n".join(lines) + "\n")


def flip(record: dict[str, Any], seed: int) -> None:
    """Flip a bit of a seed's digest."""
    digest = int(record["sha256s"][seed], 16) ^ 1
    record["sha256s"][seed] = f"{digest:064x}"


def lower(record: dict[str, Any], seed: int) -> None:
    """Lower a seed's score by one."""
    record["scores"][seed] -= 1


@pytest.mark.parametrize(
    ("fault", "seed", "failed"),
    [
        (flip, 3, {"golden", "golden combined"}),
        (flip, 200, {"golden combined"}),
        (lower, 3, {"golden", "golden combined"}),
        (lower, 200, {"golden combined"}),
    ],
)
def test_one_flipped_bit_or_count_fails_the_verdict(
    fault: Callable[[dict[str, Any], int], None], seed: int, failed: set[str], copied: Path
) -> None:
    """The exit code is 1, and a seed with its own golden value is named."""
    change_line(copied, lambda record: fault(record, seed))
    info = loading.read_kind(copied, SweepInfo)
    judged = judge(count(info, loading.chunks(copied, info), []))
    assert exit_code(judged) == 1
    assert {verdict.check for verdict in judged if verdict.outcome == "fail"} == failed
    assert any(f"seed {seed}:" in v.actual for v in judged) == ("golden" in failed)


def test_a_wrong_golden_value_fails_the_report(copied: Path, inside: Xorbench) -> None:
    """The report gives exit code 1 with both digests."""
    info = json.loads((copied / "run.json").read_text())
    info["known"][0]["answers"][31]["sha256"] = "0" * 64
    (copied / "run.json").write_text(json.dumps(info))
    done = inside("report", copied.name)
    assert done.returncode == 1
    assert re.search("FAIL golden: batch 128: seed 31: .*, golden is 0000000000000000", done.stdout)


def altered(folder: Path, module: str, old: str, new: str) -> dict[str, str]:
    """An environment with a copy of the program in which one line is changed."""
    source = Path(package.__file__).parent
    shutil.copytree(source, folder / "xorbench", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "xorbench" / module
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return os.environ | {"PYTHONPATH": str(folder)}


def test_a_process_that_computes_differently_fails_the_sweep(tmp_path: Path) -> None:
    """A tanh that divides before it multiplies is detected by the first golden seed."""
    line = "    return (x * p) / q\n"
    wrong = altered(
        tmp_path, "machine/universal/numpy_backend.py", line, "    return x * (p / q)\n"
    )
    done = run_in(tmp_path, "sweep", "--seeds", "0", "--backend", "numpy", env=wrong)
    assert done.returncode == 1
    assert "FAIL golden: batch 128: seed 0:" in done.stdout


# Interruptions


def started(folder: Path, *arguments: str, chunks: int = 2) -> subprocess.Popen[str]:
    """A sweep in a separate process, after its first chunks."""
    process = subprocess.Popen(
        command(*arguments), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    path = folder / "results" / "latest" / "chunks.jsonl"
    while not path.exists() or path.read_bytes().count(b"\n") < chunks:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    return process


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of the uninterrupted long sweep."""
    folder = once(tmp_path_factory, "long", lambda folder: made_by(folder / "x", *LONG))
    return tables(folder / "x" / "results")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The long sweep in a separate process, killed at the end."""
    process = started(tmp_path, *LONG)
    yield process
    process.kill()
    process.communicate()


def test_a_killed_sweep_leaves_no_process_and_resumes_to_identical_tables(
    running: subprocess.Popen[str], undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """This also holds if its last line is incomplete."""
    processes = psutil.Process(running.pid).children(recursive=True)
    assert processes
    running.kill()
    running.wait()
    assert not psutil.wait_procs(processes, timeout=10)[1]
    path = (tmp_path / "results" / "latest" / "chunks.jsonl").resolve()
    before = path.read_bytes()
    path.write_bytes(before[:-40])
    info = loading.read_kind(path.parent, SweepInfo)
    assert exit_code(judge(count(info, loading.chunks(path.parent, info), []))) == 3
    done = call_in(tmp_path, "sweep", "--resume", "latest")
    assert done.returncode == 0, done.stderr
    assert tables(tmp_path / "results") == undisturbed
    kept = before[:-40].rpartition(b"\n")[0]
    assert path.read_bytes().startswith(kept)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_sweep_reports_its_results_and_how_to_resume(
    number: signal.Signals,
    running: subprocess.Popen[str],
    undisturbed: dict[str, bytes],
    tmp_path: Path,
) -> None:
    """The resumed sweep gives identical tables."""
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    rest = re.search(r"interrupted; continue with python -m xorbench (sweep --resume \S+)", err)
    assert rest
    assert "Outcomes" in out
    partial = pd.read_csv(tmp_path / "results" / "latest" / "sweep.csv").iloc[0]
    assert 0 < partial["seeds"] < 768
    assert call_in(tmp_path, *rest[1].split()).returncode == 0
    assert tables(tmp_path / "results") == undisturbed


def test_a_killed_process_is_replaced_and_reported(
    running: subprocess.Popen[str], undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """A fresh process trains the chunk again: identical counts, and exit code 1."""
    psutil.Process(running.pid).children()[0].kill()
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "FAIL completion: process p0: killed by SIGKILL" in out
    assert tables(tmp_path / "results") == undisturbed


def test_a_chunk_that_kills_every_process_stops_the_sweep(tmp_path: Path) -> None:
    """After two processes the sweep stops with exit code 1 and keeps the trained chunks."""
    line = "    seeds = range(first_seed, first_seed + count)\n"
    crash = f"    import os\n    first_seed < 16 or os._exit(3)\n{line}"
    wrong = altered(tmp_path, "process/sweep_ops.py", line, crash)
    arguments = ("sweep", "--backend", "numpy", "--seeds", "0-40", "--chunk", "16", "--epochs", "2")
    done = run_in(tmp_path, *arguments, env=wrong)
    assert done.returncode == 1
    assert "16 trained; batch 128, 16 seeds from 16: exited with code 3" in done.stdout
    info = loading.read_kind((tmp_path / "results" / "latest").resolve(), SweepInfo)
    assert info.stopped
    assert [process.died for process in info.processes] == [*["exited with code 3"] * 2, None]


def test_a_sweep_interrupted_before_it_began_leaves_nothing(tmp_path: Path) -> None:
    """A signal during the imports gives exit code 130 and no folder."""
    (tmp_path / "numba.py").write_text("import time; time.sleep(60)")
    process = subprocess.Popen(
        command("sweep", "--seeds", "0"),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *searched()])},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob("results/runs/*/logs/p0.log")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[1].strip() == "xorbench: interrupted"
    assert process.returncode == 130
    assert list((tmp_path / "results").rglob("*")) == [tmp_path / "results" / "runs"]


def searched() -> list[str]:
    """The search path of the tests' own interpreter."""
    return list(filter(None, [os.environ.get("PYTHONPATH")]))


def test_resuming_a_finished_sweep_only_writes_its_report(copied: Path, inside: Xorbench) -> None:
    """No process starts."""
    before = (copied / "chunks.jsonl").read_bytes()
    done = inside("sweep", "--resume", copied.name)
    assert done.returncode == 0, done.stderr
    assert "start-up" not in done.stderr
    assert (copied / "chunks.jsonl").read_bytes() == before


# Files, kinds and backends


def test_a_sweep_writes_the_documented_files(swept: Path) -> None:
    """All files exist, and there are no temporary files."""
    names = {path.name for path in (swept / "latest").iterdir()} - {".lock"}
    assert names == {
        "run.json", "chunks.jsonl", "examples.json", "verdicts.json", "sweep.csv", "scores.csv",
        "epochs.csv", "report.md", "report.html", "plots", "logs",
    }  # fmt: skip
    assert {path.name for path in (swept / "latest" / "plots").iterdir()} == {
        "success.svg", "boundary.svg",
    }  # fmt: skip
    info = loading.read_kind((swept / "latest").resolve(), SweepInfo)
    assert (info.kind, info.name, info.schema_version) == ("sweep", "one", SCHEMA_VERSION)
    assert info.finished
    assert all(process.import_s > 0 and process.compile_s > 0 for process in info.processes)


def test_the_report_of_a_sweep_renders(swept: Path) -> None:
    """Each table of `report.md` is a table on GitHub."""
    page = swept / "latest" / "report.md"
    assert problems(page.read_text(), page) == []


def test_report_recreates_a_sweeps_files(copied: Path, xorbench: Xorbench) -> None:
    """The bytes are equal; `--json` prints the tables."""
    names = [*TABLES, "report.md", "report.html", "plots/success.svg", "plots/boundary.svg"]
    before = {name: (copied / name).read_bytes() for name in names}
    for name in names:
        (copied / name).unlink()
    done = xorbench("report", copied.name, "--json")
    assert done.returncode == 0, done.stderr
    assert {name: (copied / name).read_bytes() for name in names} == before
    printed = json.loads(done.stdout)
    assert printed["exit_code"] == 0
    assert len(printed["tables"]["sweep"][0]["combined sha256"]) == 64


def test_a_success_and_a_failure_are_plotted(swept: Path) -> None:
    """The examples have the same batch size and the points of their seeds."""
    success, failure = loading.read_examples((swept / "latest").resolve())
    assert success.batch_size == failure.batch_size
    assert success.correct == success.total == 500 > failure.correct
    assert (all(success.right), failure.right.count(True)) == (True, failure.correct)
    points = spec.points("test", failure.seed, 500, 0.1)
    assert failure.x0 == pytest.approx(points.x0.tolist(), abs=1e-4)


def test_an_empty_sweep_has_a_report_without_plots(copied: Path) -> None:
    """A sweep stopped before its first chunk has every table."""
    evidence = count(loading.read_kind(copied, SweepInfo), [], [])
    content = report.content(evidence, judge(evidence))
    assert [row["seeds"] for row in content.sections[0].frame.to_dict("records")] == [0, 0]
    assert plots.shares(evidence).empty
    assert plots.shown_points(evidence).empty


def test_an_anonymous_sweep_names_neither_host_nor_path(inside: Xorbench, tmp_path: Path) -> None:
    """The files can be published."""
    done = inside("sweep", "--seeds", "0", "--anonymous", "--out", f"{tmp_path}/results")
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "results" / "latest").rglob("*"):
        if path.is_file():
            assert str(tmp_path) not in path.read_text()
            assert "hostname" not in path.read_text()


def test_a_sweep_is_not_a_run_and_a_run_is_not_a_sweep(
    copied: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each command refuses the folder of the other with one line and does not change it."""
    before = sorted((path, path.stat().st_mtime_ns) for path in copied.iterdir())
    code, lines = complaint(["run", "--resume", str(copied)], monkeypatch, capsys)
    assert code == 2
    assert "is a sweep, not a run" in lines[0]
    assert sorted((path, path.stat().st_mtime_ns) for path in copied.iterdir()) == before
    (tmp_path / "run.json").write_text(f'{{"schema_version": {SCHEMA_VERSION}, "kind": "run"}}')
    code, lines = complaint(["sweep", "--resume", str(tmp_path)], monkeypatch, capsys)
    assert code == 2
    assert "is a run, not a sweep" in lines[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(first_seed=1), "chunks.jsonl:1: damaged: not the planned chunk"),
        (lambda r: r.update(batch_size=7), "chunks.jsonl:1: damaged: not the planned chunk"),
        (lambda r: r["right_after"].pop(), "chunks.jsonl:1: damaged: not the planned chunk"),
        (lambda r: r["scores"].pop(), "chunks.jsonl:1: damaged: scores has"),
        (lambda r: r["sha256s"].__setitem__(0, "x"), "chunks.jsonl:1: damaged"),
    ],
)
def test_a_damaged_chunk_is_named(
    change: Callable[[dict[str, Any]], None],
    message: str,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An unexpected chunk is reported with its line number."""
    change_line(copied, change)
    code, lines = complaint(["report", str(copied)], monkeypatch, capsys)
    assert code == 2
    assert message in lines[0]


def test_without_numba_torch_trains_and_the_reason_is_reported(
    tmp_path: Path, small: dict[str, bytes]
) -> None:
    """The default is the fastest available backend; the tables are identical."""
    (tmp_path / "numba.py").write_text("raise ImportError('no numba here')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *searched()])}
    done = run_in(tmp_path, *SMALL, env=environment)
    assert done.returncode == 0, done.stderr
    reason = "backend torch: numba cannot be imported: ImportError: no numba here"
    assert reason in done.stderr
    assert tables(tmp_path / "results") == small
    refused = call_in(tmp_path, *SMALL, "--backend", "numba", env=environment)
    assert refused.returncode == 2
    assert refused.stderr.startswith("xorbench: --backend: numba: numba cannot be imported")


def test_a_missing_device_is_refused_and_leaves_nothing(inside: Xorbench, tmp_path: Path) -> None:
    """The process detects this, and the sweep's folder is removed."""
    done = inside("sweep", "--seeds", "0", "--device", "xpu")
    assert done.returncode == 2
    assert done.stderr.startswith("xorbench: --device: xpu: no xpu device")
    assert list((tmp_path / "results").rglob("*")) == [tmp_path / "results" / "runs"]


def test_a_process_that_trains_with_numba_does_not_import_torch() -> None:
    """An unused library is not loaded."""
    script = (
        "import sys; from xorbench.process.sweep_ops import SweepSession, open_backend, known;"
        "open_backend(SweepSession(), backend='numba', device='cpu', threads=1, recipes=[]);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# Statistics and plans


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (15, 20, 0.5313, 0.8881), (1, 2, 0.0945, 0.9055)],
)
def test_wilsons_interval_is_the_textbooks(
    successes: int, trials: int, low: float, high: float
) -> None:
    """It equals published values to four digits and is within 0 to 1."""
    assert wilson(successes, trials) == pytest.approx((low, high), abs=6e-5)


def test_a_quantile_counts_seeds_without_an_epoch() -> None:
    """It is the smallest value reached by a sufficient share, or None."""
    counts = {3: 1, 7: 1}
    assert quantile(counts, 4, Fraction(1, 4)) == 3
    assert quantile(counts, 4, Fraction(1, 2)) == 7
    assert quantile(counts, 4, Fraction(3, 4)) is None


def test_a_plan_is_cut_into_pieces_that_cover_it_once() -> None:
    """For each chunk size, the pieces are every seed at every batch size in order."""
    for chunk in (1, 3, 16):
        plan = SweepPlan(Recipe(), (32, 64), True, ((0, 6), (9, 9)), chunk)
        covered = [(p.batch_size, p.first_seed + i) for p in plan.pieces() for i in range(p.count)]
        assert covered == [(b, s) for b in (32, 64) for s in (*range(7), 9)]
        assert len(covered) == plan.trainings


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_chunk_is_bounded_for_long_trainings(backend: str) -> None:
    """It is a positive multiple of the vector width and fits the memory."""
    for recipe in (Recipe(), Recipe(epochs=10_000), Recipe(train_size=1_000_000, epochs=1)):
        chunk = default_chunk(recipe, backend, "cpu")
        assert chunk % 16 == 0
        assert 16 <= chunk <= max(16, 2**25 // recipe.train_size)
