"""The files of real checks of a command with secrets, homes and user names."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from conftest import Completed, call_in, once, run_in

TRAINING = """
import os, shutil, sys, torch
torch.manual_seed(0)
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    model(torch.ones(4, 2)).mean().backward()
    optimizer.step()
print("running as bob with", sys.argv[1:])
open(os.path.expanduser("~/left.bin"), "w").close()
if "--fail" in sys.argv:
    raise SystemExit(f"{sys.argv[2]} was refused, see {os.path.expanduser('~/log')}")
if "--delete" in sys.argv and os.environ["XORBENCH_RUN"] == "2":
    shutil.rmtree(os.environ["XORBENCH_RECORD"])
"""
SECRETS = ("key-of-the-test", "pass-of-the-test", "shape0f0the0test")
WORDS = (
    *(sys.executable, "train.py", "--api-key", SECRETS[0]),
    *(f"https://user:{SECRETS[1]}@host/x", f"sk-{SECRETS[2]}", "--author", "bob"),
)
SHARED = ("result.json", "report.md", "report.html", "check.md", "check.xml", "summary.md")


def files(folder: Path, names: tuple[str, ...] = ()) -> dict[Path, str]:
    """The texts of the files in a folder, of all files or those with these names."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "train.py")
    return {p: p.read_text(errors="replace") for p in paths if not names or p.name in names}


def checked(folder: Path, *options: str, words: tuple[str, ...] = WORDS) -> Completed:
    """A check in a working folder in the home of bob."""
    home = folder / "home" / "bob"
    work = home / "work"
    work.mkdir(parents=True, exist_ok=True)
    (work / "train.py").write_text(TRAINING)
    environment = {**os.environ, "HOME": str(home), "GITHUB_STEP_SUMMARY": "summary.md"}
    exports = ("--markdown", "check.md", "--junit", "check.xml")
    return run_in(work, "check", *options, *exports, "--", *words, env=environment)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A check of a command that fails and prints its secret without the name."""
    return once(tmp_path_factory, "plain", lambda folder: checked(folder, words=(*WORDS, "--fail")))


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A check with --anonymous."""
    return once(tmp_path_factory, "anonymous", lambda folder: checked(folder, "--anonymous"))


def test_no_file_of_a_check_contains_a_secret(plain: Path) -> None:
    """Neither records nor reports, nor the program's output of values in its command."""
    for path, text in files(plain).items():
        assert not [secret for secret in SECRETS if secret in text], path
    assert "MASKED was refused" in "".join(files(plain, ("result.json",)).values())
    assert "--author bob" in "".join(files(plain, ("check.json",)).values())


def test_shared_files_contain_no_home_and_no_absolute_path(plain: Path) -> None:
    """Report, JSON, JUnit, Markdown and step summary show relative paths or paths with ~."""
    shared = files(plain, SHARED)
    assert {path.name for path in shared} == set(SHARED)
    for path, text in shared.items():
        assert str(plain) not in text, path
        assert str(Path(sys.executable).parent) not in text, path
    result = json.loads("".join(files(plain, ("result.json",)).values()))
    assert result["hint"].startswith("its output is in results/checks/")
    assert "~/log" in result["sentence"]


def test_an_anonymous_check_contains_no_names(anonymous: Path) -> None:
    """No file in its folder contains the home, the user, the host, or an absolute path."""
    everything = files(anonymous)
    assert len(everything) > 12
    for path, text in everything.items():
        for word in (*SECRETS, str(anonymous), "bob", os.uname().nodename):
            assert word not in text, (path, word)
    assert "~/left.bin" in "".join(files(anonymous, ("result.json",)).values())


def test_an_anonymous_check_can_be_judged_again(anonymous: Path) -> None:
    """It gives the same answer."""
    (made,) = anonymous.rglob("check.json")
    before = (made.parent / "result.json").read_text()
    work = anonymous / "home" / "bob" / "work"
    environment = {**os.environ, "HOME": str(work.parent)}
    again = run_in(work, "check", "--json", "--from", str(made.parent), env=environment)
    assert (again.returncode, again.stdout.strip()) == (0, before.strip())


def test_a_check_can_be_made_anonymous_later(plain: Path, tmp_path: Path) -> None:
    """`--from` with `--anonymous` cleans the existing records."""
    (made,) = plain.rglob("check.json")
    copied = tmp_path / made.parent.name
    shutil.copytree(made.parent, copied)
    home = {**os.environ, "HOME": str(plain / "home" / "bob")}
    done = run_in(tmp_path, "check", "--anonymous", "--from", str(copied), env=home)
    assert done.returncode == 1
    for path, text in files(copied).items():
        assert str(plain) not in text, path
        assert "bob" not in text, path


def test_records_that_the_program_deletes_are_reported(tmp_path: Path) -> None:
    """The exit code is 3, not that of a difference, and the message names the folder."""
    done = checked(tmp_path, words=(sys.executable, "train.py", "--delete"))
    assert done.returncode == 3
    assert "Run 2: the records were deleted during the run: " in done.stdout
    assert "run-2/records" in done.stdout


def test_a_trace_contains_no_secret_and_on_request_no_name(tmp_path: Path) -> None:
    """The head has the masked arguments, and diff prints them."""
    (tmp_path / "train.py").write_text(TRAINING.replace("~/left.bin", "left.bin"))
    environment = {**os.environ, "HOME": "/home/bob"}
    for name, options in (("a.jsonl", ()), ("b.jsonl", ("--anonymous",))):
        words = ("trace", "-o", name, *options, "--", *WORDS)
        assert run_in(tmp_path, *words, env=environment).returncode == 0
    texts = [(tmp_path / name).read_text() for name in ("a.jsonl", "b.jsonl")]
    assert not [secret for secret in SECRETS for text in texts if secret in text]
    assert ["bob" in text for text in texts] == [True, False]
    shown = call_in(tmp_path, "diff", "a.jsonl", "b.jsonl").stdout
    assert "--api-key MASKED" in shown
