"""`sweep` from end to end: counts that no machine, backend, chunk or core may change."""

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
# Many chunks of a few hundredths of a second: there is always one to be interrupted.
LONG = ("sweep", "--seeds", "0-767", "--chunk", "16", "--threads", "1")


def tables(results: Path) -> dict[str, bytes]:
    """The bytes of what must be equal everywhere."""
    return {name: (results / "latest" / name).read_bytes() for name in TABLES}


def made_by(folder: Path, *arguments: str, **options: Any) -> dict[str, bytes]:
    """The tables of one sweep in a folder of its own."""
    folder.mkdir()
    done = call_in(folder, *arguments, **options)
    assert done.returncode == 0, done.stderr
    return tables(folder / "results")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `results` folder of one real sweep with golden answers, to be read only."""

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
    """A copy of the sweep's folder that may be damaged."""
    target = tmp_path / "results" / "runs" / (swept / "latest").resolve().name
    shutil.copytree(swept / "latest", target)
    return target


def verdicts(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The verdicts of a sweep by check and variant."""
    found: list[dict[str, str]] = json.loads((folder / "verdicts.json").read_text())
    return {(verdict["check"], verdict["subject"]): verdict for verdict in found}


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
def test_tables_are_the_same_for_every_backend_chunk_and_thread_count(
    options: tuple[str, ...], small: dict[str, bytes], tmp_path: Path
) -> None:
    """Byte for byte, the combined digest among them."""
    assert made_by(tmp_path / "other", *SMALL, *options) == small


def test_the_counts_are_those_of_the_oracle(small: dict[str, bytes], tmp_path: Path) -> None:
    """Scores, epochs and the digest, counted anew in a plain loop over the oracle's models."""
    for name, content in small.items():
        (tmp_path / name).write_bytes(content)
    recipe = UniversalRecipe(batch_size=32, epochs=12, drop_last=False)
    trained = numpy_backend.train(recipe, [*range(18), 38], score_epochs=True)
    right = [[score == 500 for score in history] for history in trained.epoch_correct.T.tolist()]
    firsts = [history.index(True) if True in history else None for history in right]
    row = pd.read_csv(tmp_path / "sweep.csv").set_index("batch_size").loc[32]
    assert row["seeds"] == 19
    assert row["all right"] == sum(history[-1] for history in right)
    assert 0 < row["all right"] < 19
    assert row["never"] == firsts.count(None) > 0
    assert row["lost at the end"] == sum(any(h) and not h[-1] for h in right)
    assert row["later lost"] == sum(False in h[h.index(True) :] for h in right if True in h)
    assert row["first epoch median"] == sorted(99 if f is None else f for f in firsts)[9]
    assert row["combined sha256"] == spec.combined_sha256(trained.digests())
    scores = pd.read_csv(tmp_path / "scores.csv").query("batch_size == 32")
    counts = np.unique(trained.correct, return_counts=True)
    assert dict(zip(scores["correct"], scores["seeds"], strict=True)) == dict(
        zip(*(part.tolist() for part in counts), strict=True)
    )
    assert scores["accuracy"].tolist() == (scores["correct"] / scores["total"]).tolist()
    epochs = pd.read_csv(tmp_path / "epochs.csv").query("batch_size == 32")
    assert epochs["all right"].tolist() == np.sum(right, axis=0).tolist()
    assert epochs["for the first time"].tolist() == [firsts.count(e) for e in range(12)]


def test_golden_answers_are_held_and_a_seed_that_fails_to_learn_is_no_failure(
    swept: Path,
) -> None:
    """Exit 0 with failures counted: 250 of the first 256 seeds, and the golden digests."""
    found = verdicts(swept / "latest")
    assert {verdict["outcome"] for verdict in found.values()} == {"pass"}
    assert found["golden", "batch 128"]["expected"] == "the golden answers of 32 seeds"
    assert found["golden", "batch 256"]["expected"] == "the golden answers of 8 seeds"
    assert "250 all right" in found["golden combined", "batch 128"]["expected"]
    rows = pd.read_csv(swept / "latest" / "sweep.csv")
    assert (rows["all right"] < rows["seeds"]).all()


def test_a_sweep_ends_with_the_three_answers(swept: Path) -> None:
    """How many seeds learn it, whose bits are golden, and a speed that nothing judges."""
    folder = (swept / "latest").resolve()
    info = loading.read_kind(folder, SweepInfo)
    evidence = count(info, loading.chunks(folder, info), [])
    right, same, fast = answers(evidence, judge(evidence))
    assert (right.outcome, same.outcome, fast.outcome) == ("pass", "pass", "skipped")
    tally = evidence.tallies[0]
    assert f"{tally.all_right:,} of {tally.seeds:,} seeds learn it" in right.sentence
    assert "the golden bits of 32 seeds, and of seeds 0-255 together" in same.sentence
    wrong = [v for v in judge(evidence) if v.check == "completion"]
    lost = [failed("golden", "batch 128", "the golden answers", "seed 3: others"), *wrong]
    assert answers(evidence, lost)[1].outcome == "fail"
    assert answers(evidence, lost)[1].sentence == "batch 128: seed 3: others"
    assert answers(evidence, lost)[0].outcome == "fail"
    assert answers(evidence, wrong)[0].outcome == "skipped"  # trained, and nothing known of it


def test_a_recipe_without_golden_answers_is_counted_all_the_same(
    inside: Xorbench, tmp_path: Path
) -> None:
    """The check is skipped with the reason, and nothing learned in an epoch is exit 0."""
    done = inside("sweep", "--seeds", "5", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert "1 skipped" in done.stdout
    row = pd.read_csv(tmp_path / "results" / "latest" / "sweep.csv").iloc[0]
    assert (row["all right"], row["never"]) == (0, 1)
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
    """Take one right answer away."""
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
    """It comes to exit code 1, and the seed is named where it has a golden answer of its own."""
    change_line(copied, lambda record: fault(record, seed))
    info = loading.read_kind(copied, SweepInfo)
    found = judge(count(info, loading.chunks(copied, info), []))
    assert exit_code(found) == 1
    assert {verdict.check for verdict in found if verdict.outcome == "fail"} == failed
    assert any(f"seed {seed}:" in v.actual for v in found) == ("golden" in failed)


def test_a_wrong_golden_answer_fails_the_report(copied: Path, inside: Xorbench) -> None:
    """Exit 1 from the files alone, with what was expected and what was found."""
    info = json.loads((copied / "run.json").read_text())
    info["known"][0]["answers"][31]["sha256"] = "0" * 64
    (copied / "run.json").write_text(json.dumps(info))
    done = inside("report", copied.name)
    assert done.returncode == 1
    assert re.search("FAIL golden: batch 128: seed 31: .*, golden is 0000000000000000", done.stdout)


def doctored(folder: Path, module: str, old: str, new: str) -> dict[str, str]:
    """An environment in which the program is a copy of this one with one line changed."""
    source = Path(package.__file__).parent
    shutil.copytree(source, folder / "xorbench", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "xorbench" / module
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return os.environ | {"PYTHONPATH": str(folder)}


def test_a_process_that_computes_otherwise_fails_the_sweep(tmp_path: Path) -> None:
    """A tanh that divides before it multiplies is told by the first golden seed."""
    line = "    return (x * p) / q\n"
    wrong = doctored(
        tmp_path, "machine/universal/numpy_backend.py", line, "    return x * (p / q)\n"
    )
    done = run_in(tmp_path, "sweep", "--seeds", "0", "--backend", "numpy", env=wrong)
    assert done.returncode == 1
    assert "FAIL golden: batch 128: seed 0:" in done.stdout


# It survives


def started(folder: Path, *arguments: str, chunks: int = 2) -> subprocess.Popen[str]:
    """A sweep in a process of its own, past its first chunks."""
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
    """The tables of the long sweep, left alone."""
    folder = once(tmp_path_factory, "long", lambda folder: made_by(folder / "x", *LONG))
    return tables(folder / "x" / "results")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The long sweep in a process of its own; killed at the end."""
    process = started(tmp_path, *LONG)
    yield process
    process.kill()
    process.communicate()


def test_a_killed_sweep_is_readable_leaves_no_orphan_and_resumes_to_the_same_result(
    running: subprocess.Popen[str], undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """`kill -9`, half a line cut off besides, then `--resume`: byte for byte the same tables."""
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
def test_an_interrupted_sweep_reports_what_it_has_and_says_how_to_go_on(
    number: signal.Signals,
    running: subprocess.Popen[str],
    undisturbed: dict[str, bytes],
    tmp_path: Path,
) -> None:
    """Exit 130, a partial report, the command for the rest; which then gives the same result."""
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


def test_a_process_killed_from_outside_is_replaced_and_told_of(
    running: subprocess.Popen[str], undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """The chunk is trained again by a fresh process: same counts, and exit 1 for the death."""
    psutil.Process(running.pid).children()[0].kill()
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "FAIL completion: process p0: killed by SIGKILL" in out
    assert tables(tmp_path / "results") == undisturbed


def test_a_chunk_that_no_process_ends_stops_the_sweep(tmp_path: Path) -> None:
    """After two processes the sweep gives up with exit 1; what was trained stays."""
    line = "    seeds = range(first_seed, first_seed + count)\n"
    crash = f"    import os\n    first_seed < 16 or os._exit(3)\n{line}"
    wrong = doctored(tmp_path, "process/sweep_ops.py", line, crash)
    arguments = ("sweep", "--backend", "numpy", "--seeds", "0-40", "--chunk", "16", "--epochs", "2")
    done = run_in(tmp_path, *arguments, env=wrong)
    assert done.returncode == 1
    assert "16 trained; batch 128, 16 seeds from 16: exited with code 3" in done.stdout
    info = loading.read_kind((tmp_path / "results" / "latest").resolve(), SweepInfo)
    assert info.stopped
    assert [process.died for process in info.processes] == [*["exited with code 3"] * 2, None]


def test_a_sweep_interrupted_before_it_began_leaves_nothing(tmp_path: Path) -> None:
    """A signal while the libraries are still loading: exit 130, and no folder."""
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
    """What the tests' own interpreter was told to search."""
    return list(filter(None, [os.environ.get("PYTHONPATH")]))


def test_a_finished_sweep_is_resumed_to_its_report_alone(copied: Path, inside: Xorbench) -> None:
    """Nothing is left to do: no process starts, the report is made again."""
    before = (copied / "chunks.jsonl").read_bytes()
    done = inside("sweep", "--resume", copied.name)
    assert done.returncode == 0, done.stderr
    assert "start-up" not in done.stderr
    assert (copied / "chunks.jsonl").read_bytes() == before


# Files, kinds and backends


def test_a_sweep_leaves_the_files_of_the_contract(swept: Path) -> None:
    """Every file that other programs rely on is there, and nothing half written."""
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


def test_report_makes_a_sweeps_files_again(copied: Path, xorbench: Xorbench) -> None:
    """The same bytes from the recorded chunks alone; `--json` tells the tables to programs."""
    names = [*TABLES, "report.md", "report.html", "plots/success.svg", "plots/boundary.svg"]
    before = {name: (copied / name).read_bytes() for name in names}
    for name in names:
        (copied / name).unlink()
    done = xorbench("report", copied.name, "--json")
    assert done.returncode == 0, done.stderr
    assert {name: (copied / name).read_bytes() for name in names} == before
    told = json.loads(done.stdout)
    assert told["exit_code"] == 0
    assert len(told["tables"]["sweep"][0]["combined sha256"]) == 64


def test_one_success_and_one_failure_are_pictured(swept: Path) -> None:
    """The examples are of one batch size, and their points are those of their seeds."""
    right, wrong = loading.read_examples((swept / "latest").resolve())
    assert right.batch_size == wrong.batch_size
    assert right.correct == right.total == 500 > wrong.correct
    assert (all(right.right), wrong.right.count(True)) == (True, wrong.correct)
    points = spec.points("test", wrong.seed, 500, 0.1)
    assert wrong.x0 == pytest.approx(points.x0.tolist(), abs=1e-4)


def test_an_empty_sweep_has_no_pictures_and_still_a_report(copied: Path) -> None:
    """Stopped before its first chunk: every table stands, nothing is drawn."""
    evidence = count(loading.read_kind(copied, SweepInfo), [], [])
    content = report.content(evidence, judge(evidence))
    assert [row["seeds"] for row in content.sections[0].frame.to_dict("records")] == [0, 0]
    assert plots.shares(evidence).empty
    assert plots.shown_points(evidence).empty


def test_an_anonymous_sweep_names_neither_host_nor_path(inside: Xorbench, tmp_path: Path) -> None:
    """What is committed tells nothing of whose machine it was."""
    done = inside("sweep", "--seeds", "0", "--anonymous", "--out", f"{tmp_path}/results")
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "results" / "latest").rglob("*"):
        if path.is_file():
            assert str(tmp_path) not in path.read_text()
            assert "hostname" not in path.read_text()


def test_a_sweep_is_no_run_and_a_run_no_sweep(
    copied: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each verb refuses the other's folder in one line and leaves it as it was."""
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
    ("change", "says"),
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
    says: str,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line that is not the chunk that belongs there is reported with its number."""
    change_line(copied, change)
    code, lines = complaint(["report", str(copied)], monkeypatch, capsys)
    assert code == 2
    assert says in lines[0]


def test_without_numba_torch_trains_and_the_reason_is_said(
    tmp_path: Path, small: dict[str, bytes]
) -> None:
    """The default backend is the fastest that can be imported; the counts are the same."""
    (tmp_path / "numba.py").write_text("raise ImportError('no numba here')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *searched()])}
    done = run_in(tmp_path, *SMALL, env=environment)
    assert done.returncode == 0, done.stderr
    assert "torch trains: numba cannot be imported: ImportError: no numba here" in done.stderr
    assert tables(tmp_path / "results") == small
    refused = call_in(tmp_path, *SMALL, "--backend", "numba", env=environment)
    assert refused.returncode == 2
    assert refused.stderr.startswith("xorbench: --backend: numba: numba cannot be imported")


def test_a_device_that_is_not_there_is_refused_and_leaves_nothing(
    inside: Xorbench, tmp_path: Path
) -> None:
    """Only the process can know; its folder goes away with the sweep."""
    done = inside("sweep", "--seeds", "0", "--device", "xpu")
    assert done.returncode == 2
    assert done.stderr.startswith("xorbench: --device: xpu: no xpu device")
    assert list((tmp_path / "results").rglob("*")) == [tmp_path / "results" / "runs"]


def test_a_process_that_trains_with_numba_does_not_import_torch() -> None:
    """Nobody waits for a library that is not used."""
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
    """Four digits of published values; never outside of 0 and 1."""
    assert wilson(successes, trials) == pytest.approx((low, high), abs=6e-5)


def test_a_quantile_counts_those_who_never_got_there() -> None:
    """The least value that enough of all have reached; none where too few have."""
    counts = {3: 1, 7: 1}
    assert quantile(counts, 4, Fraction(1, 4)) == 3
    assert quantile(counts, 4, Fraction(1, 2)) == 7
    assert quantile(counts, 4, Fraction(3, 4)) is None


def test_a_plan_is_cut_into_pieces_that_cover_it_once() -> None:
    """Every seed at every batch size, in order, however large the chunk."""
    for chunk in (1, 3, 16):
        plan = SweepPlan(Recipe(), (32, 64), True, ((0, 6), (9, 9)), chunk)
        covered = [(p.batch_size, p.first_seed + i) for p in plan.pieces() for i in range(p.count)]
        assert covered == [(b, s) for b in (32, 64) for s in (*range(7), 9)]
        assert len(covered) == plan.trainings


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_chunk_is_bounded_however_long_a_training_is(backend: str) -> None:
    """Whole lanes, at least one set of them, and never more than memory allows."""
    for recipe in (Recipe(), Recipe(epochs=10_000), Recipe(train_size=1_000_000, epochs=1)):
        chunk = default_chunk(recipe, backend, "cpu")
        assert chunk % 16 == 0
        assert 16 <= chunk <= max(16, 2**25 // recipe.train_size)
