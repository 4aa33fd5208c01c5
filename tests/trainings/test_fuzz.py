"""Random command lines and damaged folders: one line of complaint at most, and nothing left.

Seeded. `FUZZ=5 pytest tests/trainings/test_fuzz.py` tries five times as many.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from conftest import command as words_of
from conftest import once

from xorbench.cli import cli, main
from xorbench.cli.groups import walk

TIMES = int(os.environ.get("FUZZ", "1"))
LINES, PROCESSES, FOLDERS = 2_000 * TIMES, 50 * TIMES, 300 * TIMES
CODES = {0, 1, 2, 3, 4, 130}
COMMANDS = dict(walk(cli))
VALUES = (
    "", " ", "0", "1", "-1", "2", "7", "1e999", "nan", "inf", "0x10", "1_000", "5" * 5_000, "1,,2",
    "1-", "3-1", "0-99999999999", ",", "true", "maybe", "cpu", "cuda:99", "cpu,cpu", "meta", "b128",
    "latest", "..", "../..", "/", "/dev/null", "/nonexistent/x", "x" * 300, "é😀", "a\tb", "a\x1bb",
    "\u202e", "%s", "{}", "[]", "--", "-", "=", "A=", "=B", "A=B", "PYTHONPATH=x", "1GB", "-1GB",
    "cpu-loader-b128-pin0-drop1-w0-s0", "latest:", "latest:x#y", "#", "@", "x@threads=2",
)  # fmt: skip


# What Python and matplotlib start once to know the machine and its fonts.
HELPERS = ("uname", "fc-list")


class Accepted(BaseException):
    """The line is a good one: it would start its first process now."""


class NoProcess(subprocess.Popen[bytes]):
    """Stands for `subprocess.Popen`."""

    def __init__(self, args: Any, *more: Any, **options: Any) -> None:
        if args[0] not in HELPERS:
            raise Accepted
        super().__init__(args, *more, **options)


def line(draw: random.Random) -> list[str]:
    """Some command with some of its options, and values that may be anything."""
    name = draw.choice([*COMMANDS, ("x",), ("--version",)])
    words = [*name]
    if name in COMMANDS:
        known = COMMANDS[name].params
        for parameter in draw.choices(known, k=draw.randrange(5)) if known else ():
            if isinstance(parameter, click.Option):
                words.append(draw.choice([*parameter.opts, *parameter.secondary_opts]))
            if not getattr(parameter, "is_flag", False):
                words.append(draw.choice(VALUES))
    for _ in range(draw.choice((0, 0, 0, 1, 2))):
        words.insert(draw.randrange(len(words) + 1), draw.choice([*VALUES, "--help", "--nope"]))
    if name == ("fleet",):  # which would wait for other ranks
        words += ["--merge", draw.choice(VALUES)]
    return words


def outcome(words: list[str], patch: pytest.MonkeyPatch) -> int | None:
    """The exit code of a line, None for one that was accepted; any other exception goes on."""
    patch.setattr(sys, "argv", ["xorbench", *words])
    try:
        main()
    except SystemExit as stopped:
        return int(str(stopped.code))
    except Accepted:
        return None


def left(folder: Path) -> list[str]:
    """What lies in a folder that should be empty."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """In an empty folder, where every process that would start ends the line."""
    monkeypatch.setattr(subprocess, "Popen", NoProcess)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_no_line_ends_in_a_traceback_and_a_bad_one_leaves_nothing(
    no_processes: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has an exit code that means something; one that is refused says why, in two lines."""
    draw = random.Random(2026)
    wrong = []
    for number in range(LINES):
        words = line(draw)
        try:
            code = outcome(words, no_processes)
        except Exception as error:  # what a user would see as a traceback
            wrong.append((number, words, repr(error)))
            continue
        said = capsys.readouterr().err.splitlines()
        if code is not None and code not in CODES:
            wrong.append((number, words, f"exit code {code}"))
        if code == 2 and (not said or len(said) > 2 or left(tmp_path)):
            wrong.append((number, words, f"{said} {left(tmp_path)[:5]}"))
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    assert wrong == [], "\n".join(map(str, wrong[:30]))


@pytest.mark.variant
def test_real_processes_say_the_same_of_bad_lines(
    no_processes: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of lines that are refused here, the program too says one line and a hint, exit code 2."""
    draw = random.Random(7)
    refused: list[list[str]] = []
    while len(refused) < PROCESSES:
        words = line(draw)
        if not any("\0" in word for word in words) and outcome(words, no_processes) == 2:
            refused.append(words)
    no_processes.undo()
    folder = tmp_path / "empty"
    folder.mkdir()
    wrong = []
    for words in refused:
        done = subprocess.run(
            words_of(*words), cwd=folder, capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode != 2 or "Traceback" in done.stderr or left(folder):
            wrong.append((words, done.returncode, done.stderr[-300:]))
    assert wrong == []


# Damaged folders


def truncated(data: bytes, draw: random.Random) -> bytes:
    """Its beginning."""
    return data[: draw.randrange(len(data) + 1)]


def flipped(data: bytes, draw: random.Random) -> bytes:
    """With a few other bytes."""
    changed = bytearray(data)
    for _ in range(draw.randrange(1, 6)):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def shuffled(data: bytes, draw: random.Random) -> bytes:
    """Its lines in another order, one of them twice."""
    lines = data.splitlines(keepends=True)
    draw.shuffle(lines)
    return b"".join([*lines, *lines[:1]])


def swapped(data: bytes, draw: random.Random) -> bytes:
    """With a value of another kind somewhere in its first line, or in the whole."""
    first, _, rest = data.partition(b"\n")
    whole = first if first.startswith(b"{") and first.endswith(b"}") else data
    try:
        value = json.loads(whole)
    except ValueError:
        return data
    at = value
    while isinstance(at, (dict, list)) and at:
        key = draw.choice(list(at)) if isinstance(at, dict) else draw.randrange(len(at))
        if not isinstance(at[key], (dict, list)) or not at[key] or draw.random() < 0.3:
            at[key] = draw.choice([None, -1, 1e308, "x", [], {}, True, 10**30, "\x1b[31m"])
            break
        at = at[key]
    text = json.dumps(value).encode()
    return text + b"\n" + rest if whole is first else text


def replaced(_data: bytes, draw: random.Random) -> bytes:
    """Something else."""
    return draw.choice([b"", b"[]", b"{}", b"null", b"\xff\xfe", b"[" * 10_000, b"1\n" * 50])


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    truncated, flipped, shuffled, swapped, swapped, swapped, replaced,
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, quick_folder: Path) -> Path:
    """A real run, with a run to compare it with, without its pictures."""

    def make(folder: Path) -> None:
        source = (quick_folder / "latest").resolve()
        ignore = shutil.ignore_patterns("plots", "weights", "report.html", ".lock")
        shutil.copytree(source, folder / "results" / "runs" / source.name, ignore=ignore)

    return once(tmp_path_factory, "small", make) / "results"


@pytest.mark.variant
def test_no_damaged_folder_ends_in_a_traceback(
    no_processes: pytest.MonkeyPatch,
    small: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One or two of its files are damaged, lost, or folders; it is read, compared or resumed."""
    draw = random.Random(11)
    wrong = []
    results = tmp_path / "results"
    for number in range(FOLDERS):
        shutil.rmtree(results, ignore_errors=True)
        shutil.copytree(small, results)
        (run,) = (results / "runs").iterdir()
        files = sorted(path for path in run.iterdir() if path.is_file())
        done = []
        for path in draw.sample(files, draw.choice((1, 1, 2))):
            damage = draw.choice((*DAMAGES, None, None))
            done.append((path.name, damage.__name__ if damage else "lost"))
            data = path.read_bytes()
            path.unlink()
            if damage is not None:
                path.write_bytes(damage(data, draw))
            elif draw.random() < 0.5:
                path.mkdir()
        words = draw.choice(
            [["report", run.name], ["report", "--history"], ["run", "--resume", run.name],
             ["compare", run.name, "latest"], ["pytest-benchmark", "export", run.name], ["list"],
             ["baseline", "save", "b", run.name], ["fleet", "atlas", "add", run.name]]
        )  # fmt: skip
        try:
            code = outcome(words, no_processes)
        except Exception as error:
            wrong.append((number, words, done, repr(error)))
            continue
        said = capsys.readouterr().err
        if code is not None and (code not in CODES or "\x1b" in said):
            wrong.append((number, words, done, f"{code} {said[-200:]}"))
    assert wrong == [], "\n".join(map(str, wrong[:30]))
