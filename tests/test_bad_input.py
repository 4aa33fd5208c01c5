"""Bad input gets one line that names the option or file, a hint, exit code 2, and no trace."""

import gzip
import json
import os
import sys
from pathlib import Path

import pytest

from xorbench.cli import main
from xorbench.errors import BadOption
from xorbench.records import folders, loading
from xorbench.xor.report_again import history

WRONG_OPTIONS = [
    # option, value, what the line must say besides the option
    ("--devices", "", "empty"),
    ("--devices", "gpu", "unknown device"),
    ("--devices", "cpu,,cuda", "empty"),
    ("--devices", "cpu,cpu", "twice"),
    ("--devices", "cpu:1", "unknown device"),
    ("--devices", "cuda,cuda:0", "same device"),
    ("--devices", "cuda:-1", "unknown device"),
    ("--engines", "warp", "unknown value"),
    ("--batch-sizes", "", "empty"),
    ("--batch-sizes", "0", "from 1 to"),
    ("--batch-sizes", "-4", "from 1 to"),
    ("--batch-sizes", "many", "whole number"),
    ("--batch-sizes", "32,32", "twice"),
    ("--batch-sizes", "32,,64", "empty"),
    ("--batch-sizes", "1e3", "whole number"),
    ("--batch-sizes", "3_2", "whole number"),
    ("--batch-sizes", "٣٢", "whole number"),
    ("--batch-sizes", "64-32", "is reversed"),
    ("--batch-sizes", "99999999999", "from 1 to"),
    ("--batch-sizes", "2501", "leaves no batch"),
    ("--pin-memory", "maybe", "true or false"),
    ("--pin-memory", "true,1", "twice"),
    ("--drop-last", "", "empty"),
    ("--num-workers", "-1", "from 0 to"),
    ("--num-workers", "1000", "from 0 to"),
    ("--num-workers", "two", "whole number"),
    ("--seeds", "", "empty"),
    ("--seeds", "9-0", "is reversed"),
    ("--seeds", "0-5,3-9", "twice"),
    ("--seeds", "1,1", "twice"),
    ("--seeds", "-3", "from 0 to"),
    ("--seeds", "0-99999999", "more than"),
    ("--seeds", "0-60000", "cases exceed the limit of"),
    ("--seeds", "99999999999999999999", "from 0 to"),
    ("--seeds", "1.5", "whole number"),
    ("--non-blocking", "sometimes", "true or false"),
    ("--deterministic", "on", "true or false"),
    ("--threads", "0", "from 1 to"),
    ("--pythons", "", "empty"),
    ("--pythons", "/no/such/python", "no interpreter"),
    ("--pythons", f"a b={sys.executable}", "invalid label"),
    ("--pythons", f"x={sys.executable},x={sys.executable}", "twice"),
    ("--env", "", "must be NAME=VALUE"),
    ("--env", "NAME", "must be NAME=VALUE"),
    ("--env", "1A=2", "must be NAME=VALUE"),
    ("--env", "PYTHONPATH=x", "PYTHONPATH is set by xorbench itself"),
    ("--env", "XORBENCH_RECORD=x", "XORBENCH_RECORD is set by xorbench itself"),
    ("--env", "A=1,1", "twice"),
    ("--threads", "auto,auto", "twice"),
    ("--threads", "few", "whole number"),
    ("--precision", "", "finite"),
    ("--precision", "narrow", "finite"),
    ("--precision", "0", "between 0 and 1"),
    ("--precision", "100%", "between 0 and 1"),
    ("--train-size", "0", "from 1 to"),
    ("--train-size", "huge", "whole number"),
    ("--train-size", "100", "leaves no batch"),
    ("--train-size", "99999999999", "from 1 to"),
    ("--test-size", "0", "from 1 to"),
    ("--test-size", "-1", "from 1 to"),
    ("--std", "-0.1", "from 0"),
    ("--std", "nan", "finite"),
    ("--std", "wide", "finite"),
    ("--hidden", "0", "from 1 to"),
    ("--lr", "0", "above zero"),
    ("--lr", "-1", "from 0"),
    ("--lr", "inf", "finite"),
    ("--lr", "nan", "finite"),
    ("--lr-scaling", "cubic", "unknown value"),
    ("--epochs", "0", "from 1 to"),
    ("--epochs", "", "whole number"),
    ("--epochs", "9999999999", "from 1 to"),
    ("--processes", "0", "from 1 to"),
    ("--processes", "65", "from 1 to"),
    ("--timeout", "0", "above zero"),
    ("--timeout", "nan", "finite"),
    ("--schedule-seed", "-1", "from 0 to"),
    ("--name", "", "invalid name"),
    ("--name", "a/b", "invalid name"),
    ("--name", "latest", "invalid name"),
    ("--name", "..", "invalid name"),
    ("--devices", "cuda:01", "unknown device"),
    ("--out", "x" * 300, "too long"),
    ("--out", "r\udcff", "surrogates"),
    ("--resume", "x" * 300, "too long"),
    ("--out", "", "empty"),
    ("--out", "/proc/no/such", "cannot write"),
    ("--inject", "gremlin", "unknown value"),
    ("--inject", "crash:epoch", "key=value"),
    ("--inject", "crash:epoch=x", "whole number"),
    ("--resume", "nowhere", "no run"),
    ("--resume", "", "empty"),
    ("--colour", "red", "no such option"),
]


def complaint(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[str]]:
    """Exit code and the lines on standard error of the real command line."""
    monkeypatch.setattr(sys, "argv", ["xorbench", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    streams = capsys.readouterr()
    assert streams.out == ""
    return int(str(stopped.value.code)), streams.err.splitlines()


@pytest.mark.parametrize(
    ("option", "value", "says"), WRONG_OPTIONS, ids=[f"{o}={v}" for o, v, _ in WRONG_OPTIONS]
)
def test_a_wrong_option_is_named_in_one_line(
    option: str,
    value: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, one line beginning with the option, perhaps a hint, and nothing written."""
    monkeypatch.chdir(tmp_path)
    code, lines = complaint(["run", option, value], monkeypatch, capsys)
    assert code == 2
    named = "--batch-sizes" if says == "leaves no batch" else option
    assert lines[0].startswith(f"xorbench: {named}")
    assert says in lines[0]
    assert [line.startswith("hint: ") for line in lines[1:]] in ([], [True])
    assert list(tmp_path.iterdir()) == []


WRONG_SWEEP_OPTIONS = [
    ("--seeds", "", "empty"),
    ("--seeds", "9-0", "is reversed"),
    ("--seeds", "0-5,3-9", "twice"),
    ("--seeds", "1,1", "twice"),
    ("--seeds", "-1", "from 0 to"),
    ("--seeds", "0-99999999", "trainings exceed the limit of"),
    ("--seeds", "0-99999999999", "from 0 to"),
    ("--seeds", "all", "whole number"),
    ("--batch-sizes", "", "empty"),
    ("--batch-sizes", "0", "from 1 to"),
    ("--batch-sizes", "32,32", "twice"),
    ("--batch-sizes", "2501", "leaves no batch"),
    ("--drop-last", "maybe", "true or false"),
    ("--drop-last", "true,false", "true or false"),
    ("--epochs", "0", "from 1 to"),
    ("--epochs", "20000", "visits"),
    ("--train-size", "2000000", "points exceed"),
    ("--test-size", "2000000", "points exceed"),
    ("--std", "nan", "finite"),
    ("--lr", "0", "above zero"),
    ("--hidden", "8", "no such option"),
    ("--backend", "abacus", "unknown value"),
    ("--device", "gpu", "unknown device"),
    ("--device", "cuda,cpu", "unknown device"),
    ("--threads", "0", "from 1 to"),
    ("--threads", "auto", "whole number"),
    ("--chunk", "0", "from 1 to"),
    ("--chunk", "65537", "from 1 to"),
    ("--timeout", "0", "above zero"),
    ("--name", "a/b", "invalid name"),
    ("--out", "", "empty"),
    ("--out", "/proc/no/such", "cannot write"),
    ("--resume", "nowhere", "no run"),
]


@pytest.mark.parametrize(
    ("option", "value", "says"),
    WRONG_SWEEP_OPTIONS,
    ids=[f"{o}={v}" for o, v, _ in WRONG_SWEEP_OPTIONS],
)
def test_a_wrong_option_of_a_sweep_is_named_in_one_line(
    option: str,
    value: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, one line beginning with the option, perhaps a hint, and nothing written."""
    monkeypatch.chdir(tmp_path)
    code, lines = complaint(["sweep", option, value], monkeypatch, capsys)
    assert code == 2
    assert lines[0].startswith(f"xorbench: {option}")
    assert says in lines[0]
    assert [line.startswith("hint: ") for line in lines[1:]] in ([], [True])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--epochs"], "--epochs"),
        (["run", "--batch-sizes", "4000", "--drop-last", "true"], "leaves no batch"),
        (["run", "extra"], "extra"),
        (["run", "--processes", "40", "--deterministic", "true,false"], "more than 64"),
        (["run", "--resume", "latest", "--epochs", "3"], "cannot be given with --resume"),
        (["check", "--from", "x", "--threshold", "2%"], "--threshold: cannot be given with --from"),
        (
            ["check", "--from", "x", "--", "python", "a.py"],
            "--from: cannot be given with a command",
        ),
        (["check", "--from", "x", "a:b"], "--from: cannot be given with a command"),
        (["canary", "--devices", "gpu"], "--devices: unknown device"),
        (["canary", "--probes", "matmul,gpu"], "--probes: unknown"),
        (["canary", "--probes", "x"], "--probes: unknown"),
        (["canary", "--burn-in", "many"], "--burn-in: must be a finite number"),
        (["canary", "--burn-in", "-1"], "--burn-in: must be from 0"),
        (["canary", "--memory", "1GiB"], "--memory: needs --burn-in"),
        (
            ["canary", "--burn-in", "1", "--memory", "1"],
            "--memory: must be from 1,048,576 to",
        ),
        (["canary", "--burn-in", "1", "--memory", "x"], "--memory: must be a size"),
        (["canary", "--burn-in", "1", "--memory", "nan"], "--memory: must be a size"),
        (["canary", "--prometheus", "/no/such/x.prom"], "--prometheus: cannot write"),
        (["canary", "--machine-threshold", "0.5"], "--machine-threshold: must be from 1"),
        (["canary", "--timeout", "nan"], "--timeout: must be a finite number"),
        (["sweep", "--resume", "latest", "--chunk", "3"], "cannot be given with --resume"),
        (["sweep", "--backend", "numba", "--device", "cuda"], "supports only cpu"),
        (["sweep", "--backend", "numpy", "--device", "cuda:1"], "supports only cpu"),
        (["run", "--precision", "2%", "--stress", "cpu"], "--precision: cannot be given with"),
        (["run", "--precision", "2%", "--threads", "1,2,3,4,5,6,7"], "--precision: 70 processes"),
        (["fleet", "--out", "x", "--markdown", "./x"], "--markdown: './x' is the folder of --out"),
        (["dance"], "dance"),
        (["report", "nowhere"], "no run 'nowhere'"),
        (["report", "latest"], "no run 'latest'"),
        (["report", "--out", "missing", "x"], "missing"),
        (["report", ""], "empty"),
        (["report", "x" * 300], "too long"),
        (["canary", "--out", "x" * 300], "too long"),
        (["canary", "--save", "--out", "/proc/no"], "cannot write"),
        (["run", "--resume", "latest", "--out", ""], "--out: empty"),
        ([], "no command given"),
    ],
)
def test_a_wrong_command_is_named_in_one_line(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wrong verbs, arguments and combinations are treated like wrong values."""
    monkeypatch.chdir(tmp_path)
    code, lines = complaint(arguments, monkeypatch, capsys)
    assert code == 2
    assert says in lines[0]
    assert len(lines) <= 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["rnu"], "did you mean run?"),
        (["baseline", "sav"], "did you mean save?"),
        (["run", "--epoch", "3"], "did you mean --epochs?"),
        (["canary", "--probe", "x"], "did you mean --probes?"),
        (["canary", "--colour", "x"], "see python -m xorbench canary --help"),
        (["fleet", "atlas", "frobnicate"], "see python -m xorbench fleet atlas --help"),
        (["dance"], "see python -m xorbench --help"),
    ],
)
def test_the_hint_has_the_nearest_word_or_the_help_of_the_command(
    arguments: list[str],
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was meant is one word away."""
    code, lines = complaint(arguments, monkeypatch, capsys)
    assert (code, lines[-1]) == (2, f"hint: {hint}")


def spoil(path: Path, number: int, content: str) -> None:
    """Replace one line of a file; numbers count from one."""
    lines = path.read_text().splitlines()
    lines[number - 1] = content
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("name", "number", "content", "says"),
    [
        ("epochs.jsonl", 3, '{"process": "p0"', "epochs.jsonl:3: damaged"),
        ("epochs.jsonl", 5, '{"process": 7}', "epochs.jsonl:5: damaged"),
        ("epochs.jsonl", 1, "[]", "epochs.jsonl:1: damaged: not an object"),
        ("results.jsonl", 2, '{"case": {}, "epoch_digests": []}', "results.jsonl:2: damaged"),
        ("results.jsonl", 1, "\x00\x00", "results.jsonl:1: damaged"),
    ],
)
def test_a_damaged_line_is_named(
    name: str,
    number: int,
    content: str,
    says: str,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line that is not what it should be is reported with its file and number."""
    spoil(copied / name, number, content)
    before = (copied / "report.md").read_bytes()
    code, lines = complaint(["report", str(copied)], monkeypatch, capsys)
    assert code == 2
    assert says in lines[0]
    assert (copied / "report.md").read_bytes() == before


def test_a_compressed_run_reads_as_before(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing is added to it: what is on record would no longer be read."""
    before = loading.load(copied)
    for path in copied.glob("*.jsonl"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert loading.load(copied) == before
    code, lines = complaint(["run", "--resume", str(copied)], monkeypatch, capsys)
    assert (code, "compressed, so lines cannot be added" in lines[0]) == (2, True)
    cut = copied / "epochs.jsonl.gz"
    cut.write_bytes(cut.read_bytes()[:-20])
    code, lines = complaint(["report", str(copied)], monkeypatch, capsys)
    assert (code, "epochs.jsonl.gz: damaged" in lines[0]) == (2, True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"process": "p9"}, "no process p9"),
        ({"process": "zz"}, "no process zz"),
        ({"config": "threads=3"}, "config differs from the plan"),
        ({"weights": {"w": {"dtype": "float32", "shape": [1], "hex": "zz"}}}, "non-hex"),
        ({"case": {"device": "cpu", "seed": 77}}, "no case"),
    ],
    ids=str,
)
def test_an_impossible_training_is_refused(
    change: dict[str, object],
    says: str,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A training that its run cannot have recorded is reported with its file and number."""
    path = copied / "results.jsonl"
    record = json.loads(path.read_text().splitlines()[1]) | change
    spoil(path, 2, json.dumps(record))
    code, lines = complaint(["report", str(copied)], monkeypatch, capsys)
    assert code == 2
    assert "results.jsonl:2: damaged" in lines[0]
    assert says in lines[0]


@pytest.mark.parametrize("content", ["[]", "null", '{"name": 3}', '{"kind": []}', "{"])
def test_a_bad_folder_beside_it_does_not_harm_a_run(
    content: str,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Names are looked for without stumbling; the bad one itself is one clear line."""
    bad = copied.parent / "bad"
    bad.mkdir()
    (bad / "run.json").write_text(content)
    root = str(copied.parent.parent)
    code, lines = complaint(["report", "--out", root, "nobody"], monkeypatch, capsys)
    assert (code, "no run 'nobody'" in lines[0]) == (2, True)
    code, lines = complaint(["report", "--out", root, "bad"], monkeypatch, capsys)
    assert (code, "run.json" in lines[0]) == (2, True)


def test_a_run_is_found_beside_a_folder_of_its_name(copied: Path, tmp_path: Path) -> None:
    """A local folder that is no run does not stand before a run of that name."""
    (tmp_path / "first").mkdir()
    assert folders.find(tmp_path / "results", "first") == copied


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema_version": 1}, "schema version 1, this xorbench reads 4"),
        ({"schema_version": 3}, "schema version 3, this xorbench reads 4"),
        ({"schema_version": "1"}, "schema version '1'"),
        ({"recipe": {"epochs": 0}}, "damaged: --epochs"),
        ({"cases": 3}, "damaged"),
        ({"id": None}, "damaged"),
    ],
)
def test_a_run_file_of_another_kind_is_refused(
    change: dict[str, object],
    says: str,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A newer schema or an impossible content of run.json is one clear line."""
    path = copied / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    code, lines = complaint(["report", str(copied)], monkeypatch, capsys)
    assert code == 2
    assert says in lines[0]


def test_a_prefix_that_fits_several_runs_is_refused(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An ambiguous RUN names the runs that it fits."""
    (copied.parent / (copied.name + "x")).mkdir()
    root = copied.parent.parent
    arguments = ["report", "--out", str(root), copied.name[:12]]
    code, lines = complaint(arguments, monkeypatch, capsys)
    assert code == 2
    assert "matches 2 runs" in lines[0]


def test_a_name_is_given_once(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that already finds a run is not given to another."""
    root = copied.parent.parent
    arguments = ["run", "--quick", "--out", str(root), "--name", "first"]
    code, lines = complaint(arguments, monkeypatch, capsys)
    assert code == 2
    assert "already names a run" in lines[0]
    assert list(copied.parent.iterdir()) == [copied]


def test_an_anonymous_copy_names_nobody_and_reads_back(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run itself stays as it was; a second copy is refused, with nothing written."""
    info = json.loads((copied / "run.json").read_text())
    info["host"]["hostname"] = "secrethost.example.org"
    (copied / "run.json").write_text(json.dumps(info))
    (copied / "logs" / "p0.log").write_text("SecretHost: /home/jo/data is full\n")
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    arguments = ["report", str(copied), "--anonymous"]
    monkeypatch.setattr(sys, "argv", ["xorbench", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert "-anonymous" in capsys.readouterr().err
    copy = copied.with_name(f"{copied.name}-anonymous")
    root = copied.parent.parent
    assert folders.find(root, "first") == folders.find(root, copied.name[:20]) == copied
    assert history(root)[0].content.heading[0] == ("runs", "1")
    assert loading.load(copy).trainings == loading.load(copied).trainings
    assert loading.read_info(copy).anonymous
    assert (copy / "logs" / "p0.log").read_text() == "<host>: data is full\n"
    for path in copy.rglob("*"):
        assert not path.is_file() or b"secrethost" not in path.read_bytes().lower(), path
    code, lines = complaint(arguments, monkeypatch, capsys)
    assert (code, "exists already" in lines[0]) == (2, True)
    assert before == {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("run.json", DEEP, "run.json: damaged"),
        ("run.json", b'{"id": "\xff\xfe"}', "run.json: damaged"),
        (
            "boundary_points.json",
            '{"seed": 0, "x0": [1], "x1": [], "labels": []}',
            "differ in length",
        ),
        ("boundary_points.json", DEEP, "boundary_points.json: damaged"),
        ("float64.jsonl", DEEP + "\n", "float64.jsonl:1: damaged"),
        ("float64.jsonl", b"\xff\xfe\n", "float64.jsonl:1: damaged"),
        ("epochs.jsonl", DEEP + "\n", "epochs.jsonl:1: damaged"),
        ("results.jsonl", b"\xff\n", "results.jsonl:1: damaged"),
    ],
)
def test_a_damaged_file_is_named(
    name: str,
    content: str | bytes,
    says: str,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Deep nesting, bytes that are no text, ragged lists: one line, no traceback."""
    (copied / name).write_bytes(content.encode() if isinstance(content, str) else content)
    code, lines = complaint(["report", str(copied)], monkeypatch, capsys)
    assert code == 2
    assert says in lines[0]
    assert len(lines) <= 2


def test_weights_of_another_shape_are_damage(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their bytes must be as many as the shape says."""
    lines = (copied / "results.jsonl").read_text().splitlines()
    record = json.loads(lines[0])
    next(iter(record["weights"].values()))["shape"] = [9, 9]
    spoil(copied / "results.jsonl", 1, json.dumps(record))
    code, said = complaint(["report", str(copied)], monkeypatch, capsys)
    assert (code, "bytes do not fit float32 of shape [9, 9]" in said[0]) == (2, True)


def test_a_process_that_does_not_say_what_it_is_is_damage(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without its PyTorch a process cannot be told from another."""
    info = json.loads((copied / "run.json").read_text())
    del info["processes"][0]["machine"]["torch_version"]
    (copied / "run.json").write_text(json.dumps(info))
    code, said = complaint(["report", str(copied)], monkeypatch, capsys)
    assert (code, "the machine of process p0 lacks torch_version" in said[0]) == (2, True)


def test_a_bad_neighbour_blocks_nothing(copied: Path) -> None:
    """Beside a pipe that nobody writes, and a damaged folder, a run is found by its name."""
    runs = copied.parent
    for name in ("a-pipe", "z-pipe"):
        (runs / name).mkdir()
        os.mkfifo(runs / name / "run.json")
    (runs / "z-damaged").mkdir()
    (runs / "z-damaged" / "run.json").write_text(DEEP)
    root = runs.parent
    assert folders.find(root, "first") == copied
    assert folders.find(root, "latest", kind="run") == copied


def test_latest_is_the_newest_of_the_kind_that_is_needed(copied: Path) -> None:
    """A sweep after the run is not taken for it; where there is none, what makes one is told."""
    root, sweep = copied.parent.parent, copied.with_name("99990101T000000Z-abcdef")
    sweep.mkdir()
    (sweep / "run.json").write_text('{"kind": "sweep"}')
    (root / "latest").unlink(missing_ok=True)
    (root / "latest").symlink_to(Path("runs") / sweep.name)
    assert folders.find(root, "latest", kind="run") == copied
    assert folders.find(root, "latest", kind="sweep") == sweep
    with pytest.raises(BadOption, match="A: no benchmark in") as raised:
        folders.find(root, "latest", "A", "benchmark")
    assert raised.value.hint == "create one with python -m xorbench pytest-benchmark import FILE"


def test_control_characters_of_a_file_reach_neither_terminal_nor_report(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged or hostile file colours nothing, moves no cursor, and leads nowhere."""
    info = json.loads((copied / "run.json").read_text())
    info["processes"][0]["died"] = "\x1b[31mred\x07\u202e [here](javascript:alert(1)) <script>"
    (copied / "run.json").write_text(json.dumps(info))
    monkeypatch.setattr(sys, "argv", ["xorbench", "report", str(copied)])
    with pytest.raises(SystemExit):
        main()
    streams = capsys.readouterr()
    markdown = (copied / "report.md").read_text()
    for text in (streams.out, streams.err, markdown):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "red" in streams.out
    assert "](javascript:" not in markdown
    assert "<script>alert" not in (copied / "report.html").read_text()
    assert "<script>" not in markdown
