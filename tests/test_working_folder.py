"""The working folder of a command: copied, limited in size, unchanged; and failing commands."""

import hashlib
import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import call_in, command, once

from xorbench.errors import BadFile, BadOption
from xorbench.programs.command_run import CommandRun, working_copy
from xorbench.programs.command_runs import notes_of, written_outside
from xorbench.records.ended import Ended
from xorbench.records.folders import new_folder
from xorbench.runtime import working_folder
from xorbench.runtime.working_folder import CopyPlan

DEADLINE_S = 120
ENOUGH = 10**9


def planned(source: Path, *, exclude: tuple[str, ...] = (), **more: Any) -> CopyPlan:
    """The plan of a copy of the folder."""
    options = {"link": (), "own": source / "results" / "checks", "max_bytes": ENOUGH, **more}
    return working_folder.planned(source, exclude, **options)


def copied(source: Path, target: Path, **options: Any) -> Path:
    """A copy of the folder."""
    working_folder.copy(planned(source, **options), target)
    return target


def content(folder: Path) -> dict[str, tuple[str, int, str]]:
    """Each path in a folder: its kind and mode, modification time, and the digest of its bytes."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        pointed = str(path.readlink()) if path.is_symlink() else ""
        digest = hashlib.sha256(data + pointed.encode()).hexdigest()
        entries[str(path.relative_to(folder))] = (oct(stat.st_mode), stat.st_mtime_ns, digest)
    return entries


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with files, folders, links and special files."""
    folder = tmp_path / "source"
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "deep" / "table.csv").write_text("1,2\n")
    (folder / "train.py").write_text("print('on')\n")
    (folder / "train.py").chmod(0o755)
    (folder / "empty").mkdir()
    (folder / "to_data").symlink_to("data")
    (folder / "absolute").symlink_to(folder / "data" / "deep" / "table.csv")
    return folder


# Copies


def test_a_copy_has_the_content_of_the_folder(source: Path, tmp_path: Path) -> None:
    """Files, empty folders, modes and modification times; the files are not hard links."""
    made = copied(source, tmp_path / "copy")
    before, after = content(source), content(made)
    assert set(before) == set(after)
    regular = [path for path in before if not (source / path).is_symlink()]
    assert {path: before[path] for path in regular} == {path: after[path] for path in regular}
    (made / "train.py").write_text("changed")
    assert (source / "train.py").read_text() == "print('on')\n"


def test_links_within_the_folder_stay_within_the_copy(source: Path, tmp_path: Path) -> None:
    """An absolute link to a file of the folder points to the file of the copy."""
    plan = planned(source)
    made = copied(source, tmp_path / "copy")
    assert set(plan.links) == {"to_data", "absolute"}
    assert plan.outward == {}
    assert (made / "absolute").resolve() == made / "data" / "deep" / "table.csv"
    assert (made / "to_data").resolve() == made / "data"


def test_links_out_of_the_folder_are_reported(source: Path, tmp_path: Path) -> None:
    """Links to a file, a folder, or a missing path are links in the copy too."""
    (tmp_path / "outside").mkdir()
    (source / "out").symlink_to("../outside")
    (source / "nowhere").symlink_to(tmp_path / "nowhere")
    plan = planned(source)
    expected = {"out": str(tmp_path / "outside"), "nowhere": str(tmp_path / "nowhere")}
    assert plan.outward == expected
    made = copied(source, tmp_path / "deeper" / "copy")
    assert {name: str((made / name).resolve()) for name in expected} == expected


def test_a_link_to_itself_is_not_copied(source: Path, tmp_path: Path) -> None:
    """Nor are links in a circle."""
    (source / "a").symlink_to("b")
    (source / "b").symlink_to("a")
    plan = planned(source)
    assert plan.not_copied == ["a", "b"]
    copied(source, tmp_path / "copy")


def test_pipes_and_sockets_are_not_copied(source: Path, tmp_path: Path) -> None:
    """They are not read, which would block."""
    os.mkfifo(source / "pipe")
    before = Path.cwd()
    os.chdir(source)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    os.chdir(before)
    plan = planned(source)
    assert plan.not_copied == ["pipe", "socket"]
    assert not (copied(source, tmp_path / "copy") / "pipe").exists()


def test_a_link_may_be_named_by_its_absolute_path(source: Path, tmp_path: Path) -> None:
    """It is linked as by its relative path; the folder itself, or one above, is bad input."""
    assert planned(source, link=(str(source / "data"),)).linked == {"data": str(source / "data")}
    for outside in (str(tmp_path), "..", "."):
        with pytest.raises(BadOption, match=r"--link: .* (is not within|contains)"):
            planned(source, link=(outside,))


def test_a_virtual_environment_is_linked(source: Path, tmp_path: Path) -> None:
    """It is identified by its pyvenv.cfg, and not copied."""
    (source / "env" / "bin").mkdir(parents=True)
    (source / "env" / "pyvenv.cfg").touch()
    assert planned(source).linked == {"env": str(source / "env")}
    assert (copied(source, tmp_path / "copy") / "env").is_symlink()


@pytest.mark.parametrize(
    ("pattern", "excluded"),
    [
        ("data", ["data"]),
        ("data/", ["data"]),
        ("./data", ["data"]),
        ("deep/", ["data/deep"]),
        ("*.csv", ["data/deep/table.csv"]),
        ("data/deep/*", ["data/deep/table.csv"]),
        ("nothing", []),
    ],
)
def test_a_pattern_excludes_paths(source: Path, pattern: str, excluded: list[str]) -> None:
    """It matches a path or a name, with a trailing slash or without."""
    assert planned(source, exclude=(pattern,)).not_copied == excluded


def test_bytecode_and_own_results_are_not_copied(source: Path) -> None:
    """Neither compiled code nor the output folder of checks is copied."""
    (source / "__pycache__").mkdir()
    (source / "results" / "checks").mkdir(parents=True)
    assert planned(source).not_copied == ["__pycache__", "results/checks"]


def test_a_linked_path_must_exist(source: Path) -> None:
    """--link of a missing path is bad input."""
    assert planned(source, link=("data",)).linked == {"data": str(source / "data")}
    with pytest.raises(BadOption, match="--link"):
        planned(source, link=("date",))


def test_a_folder_beyond_the_limit_is_an_error(source: Path) -> None:
    """The message names the option and the largest entries."""
    (source / "data" / "large.bin").write_bytes(bytes(3_000))
    with pytest.raises(BadOption, match=r"--max-copy.*data") as raised:
        planned(source, max_bytes=2_000)
    assert "--exclude" in raised.value.hint
    assert planned(source, max_bytes=2_000, exclude=("large.bin",)).size_bytes < 2_000


def test_the_sizes_of_a_plan_are_summed_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Summing again for each file would take quadratic time."""
    sums = []
    monkeypatch.setattr(CopyPlan, "size_bytes", property(lambda plan: sums.append(plan) or 0))
    planned(source)
    assert len(sums) <= 1


def test_an_unreadable_folder_is_bad_input(tmp_path: Path) -> None:
    """For example a file in place of the folder."""
    (tmp_path / "file").touch()
    with pytest.raises(BadFile, match="cannot read"):
        planned(tmp_path / "file")


def test_a_copy_that_cannot_be_made_is_bad_input(source: Path, tmp_path: Path) -> None:
    """For example a file in place of the target, or a file removed since planning."""
    (tmp_path / "file").touch()
    plan = planned(source)
    with pytest.raises(BadFile, match="cannot copy"):
        working_folder.copy(plan, tmp_path / "file" / "copy")
    (source / "train.py").unlink()
    with pytest.raises(BadFile, match=r"train\.py: cannot copy"):
        working_folder.copy(plan, tmp_path / "copy")


def test_each_run_has_a_fresh_copy_of_the_same_path(source: Path) -> None:
    """Files of the previous run are removed, also from write-protected folders."""
    run = CommandRun(("true",), source, planned(source), 1.0)
    with working_copy(run) as fresh:
        first = fresh()
        (first / "left").mkdir()
        (first / "left" / "file").touch()
        (first / "left").chmod(0o555)
        (first / "link").symlink_to(source / "data")
        second = fresh()
        assert (second, (second / "left").exists(), second.name) == (first, False, source.name)
    assert not first.parent.exists()
    assert (source / "data" / "deep" / "table.csv").exists()


def test_removing_follows_no_link(source: Path, tmp_path: Path) -> None:
    """The target of a link keeps its mode and its files."""
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "out").symlink_to(source)
    before, mode = content(source), source.stat().st_mode
    working_folder.remove(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
    assert (content(source), source.stat().st_mode) == (before, mode)


# The program


def check(folder: Path, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run check in a folder and wait for it."""
    return subprocess.run(
        command("check", *words),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
        **more,
    )


TRAIN = """
import os, sys
import torch
from torch import nn

torch.manual_seed(0)
run = os.environ["XORBENCH_RUN"]
print(os.getcwd(), sorted(os.listdir()))
open("mark", "a").write(run)
open("data/deep/table.csv", "a").write(run)
os.remove("spare")
torch.save({}, os.path.join(sys.argv[1], "saved.pt"))
open(os.path.join(sys.argv[1], "written.txt"), "w").write(run)
model = nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
"""


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real check of a training that writes everywhere, and the folder before it."""

    def make(folder: Path) -> None:
        work = folder / "work"
        (work / "data" / "deep").mkdir(parents=True)
        (work / "data" / "deep" / "table.csv").write_text("1,2\n")
        (work / "spare").touch()
        (work / "train.py").write_text(TRAIN)
        (work / "out").symlink_to(folder)
        os.mkfifo(work / "pipe")
        (folder / "outside").mkdir()
        before = content(work)
        words = ("--out", str(folder / "results"), "--json", "--")
        done = check(work, *words, sys.executable, "train.py", str(folder / "outside"))
        result = {"code": done.returncode, "stderr": done.stderr, "answer": json.loads(done.stdout)}
        (folder / "done.json").write_text(
            json.dumps({**result, "untouched": before == content(work)})
        )

    return once(tmp_path_factory, "working-folder", make)


@pytest.fixture(scope="module")
def done(checked: Path) -> dict[str, Any]:
    """The result of the check."""
    result: dict[str, Any] = json.loads((checked / "done.json").read_text())
    return result


def test_the_users_folder_is_unchanged(done: dict[str, Any]) -> None:
    """A training that writes, appends and removes does not change its bytes, modes or times."""
    assert (done["code"], done["untouched"]) == (0, True)


def test_each_run_begins_with_the_same_files(checked: Path) -> None:
    """In a folder of the same path, without files of the previous run."""
    outputs = [
        (path / "stdout.txt").read_text()
        for path in sorted((checked / "results" / "checks").glob("*/run-*"))
    ]
    assert len(outputs) == 2
    assert outputs[0] == outputs[1]
    assert "'data', 'out', 'spare', 'train.py']" in outputs[0]


def test_links_and_files_outside_are_reported(done: dict[str, Any], checked: Path) -> None:
    """Before the runs, links and paths that are not copied; then files written outside."""
    assert f"out -> {checked}" in done["stderr"]
    assert "not copied: pipe" in done["stderr"]
    notes = " ".join(done["answer"]["notes"])
    assert notes.endswith(": saved.pt, written.txt")


def test_the_copies_are_removed(checked: Path) -> None:
    """The folder in the output of the runs does not exist any more."""
    (output, *_) = (checked / "results" / "checks").glob("*/run-1/stdout.txt")
    assert not Path(output.read_text().split(" [")[0]).exists()


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ([sys.executable, "-I"], "python -I, -E or -S"),
        ([sys.executable, "-E"], "python -I, -E or -S"),
        ([sys.executable, "-S"], "python -I, -E or -S"),
        (["env", "-i", sys.executable], "env -i"),
    ],
    ids=["-I", "-E", "-S", "env -i"],
)
def test_an_unrecorded_command_is_inconclusive(
    tmp_path: Path, before: list[str], reason: str
) -> None:
    """The exit code is 3, and the answer has the reason."""
    (tmp_path / "script.py").write_text("print('on')\n")
    done = call_in(tmp_path, "check", "--in-place", "--json", "--", *before, "script.py")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["outcome"]) == (3, "inconclusive")
    assert reason in answer["sentence"]


def test_a_failed_command_is_reported_with_its_last_line(tmp_path: Path) -> None:
    """The exit code is 1, after a single run."""
    (tmp_path / "script.py").write_text("raise SystemExit('the reason')\n")
    done = call_in(tmp_path, "check", "--json", "--", sys.executable, "script.py")
    answer = json.loads(done.stdout)
    assert (done.returncode, len(answer["runs"])) == (1, 1)
    assert "the reason" in answer["sentence"]


FUNCTIONS = """
async def coroutine(): pass
def needs(x): pass
def needs_keyword(*, key): pass
number = 3
"""


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--", "no-such-command"], "no-such-command"),
        (["module:needs"], "'x'"),
        (["module:needs_keyword"], "'key'"),
        (["module:coroutine"], "coroutine"),
        (["module:number"], "number"),
        (["module:missing"], "missing"),
        (["absent:function"], "absent"),
        (["module"], "module"),
        (["--max-copy", "1B", "--", "true"], "--max-copy"),
        (["--link", "absent", "--", "true"], "--link"),
        (["--out", "module.py", "--", "true"], "--out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, words: list[str], named: str
) -> None:
    """The exit code is 2, the error names the input, and no folder of a check is made."""
    (tmp_path / "module.py").write_text(FUNCTIONS)
    before = content(tmp_path)
    done = call_in(tmp_path, "check", *words)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if named in line]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    after = content(tmp_path)
    assert {p for p in after if "checks/" in p} == set()
    assert {p: before[p] for p in before} == {p: after[p] for p in before}


def test_a_deleted_working_folder_is_bad_input(tmp_path: Path) -> None:
    """It is one line with exit code 2."""
    words = shlex.join(command("check", "--", sys.executable, "x.py"))
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        ["sh", "-c", f"rmdir ../gone; exec {words}"],
        cwd=tmp_path / "gone",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_remaining_process_is_not_a_file_written_outside(tmp_path: Path) -> None:
    """Even if its name looks like a file; only an existing file counts."""
    (tmp_path / "records").mkdir()

    def run() -> Ended:
        return Ended(
            number=1, folder=tmp_path, how="ended", code=0, wall_s=1.0, left=["outside.py"]
        )

    assert len(notes_of([run()])) == 1
    assert written_outside([run()]) == []
    written = tmp_path / "written.txt"
    line = {"pid": 1, "event": "outside", "path": str(written)}
    (tmp_path / "records" / "presence.jsonl").write_text(json.dumps(line) + "\n")
    assert written_outside([run()]) == []
    written.touch()
    assert written_outside([run()]) == [str(written)]


def test_folders_of_the_same_name_can_be_made_in_the_same_second(tmp_path: Path) -> None:
    """Their names begin with the time and contain the name."""
    names = [new_folder(tmp_path / "checks", "mine").name for _ in range(3)]
    assert len(set(names)) == 3
    assert all("-mine" in name for name in names)
