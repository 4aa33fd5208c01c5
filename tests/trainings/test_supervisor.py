"""Every process of a run ends with it, however it ends, and its output is taken as it is."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import command

from xorbench.measure import supervisor

DEADLINE_S = 60
ALIVE = 6  # processes of a tree

# A command whose processes try to outlive it in every way that a process has.
TREE = """
import os, signal, subprocess, sys, time

def told(name):
    with open(f"pids/{name}.part", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"pids/{name}.part", f"pids/{name}")

def forked(name, prepare=lambda: None):
    if not os.fork():
        prepare()
        told(name)
        while True:
            time.sleep(60)

def deaf():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

def daemon():
    os.setsid()
    if os.fork():
        os._exit(0)
    os.setsid()

os.makedirs("pids", exist_ok=True)
forked("plain")
forked("session", os.setsid)
forked("daemon", daemon)
forked("deaf", deaf)
forked("restarting", lambda: os.setsid() or deaf())
told("first")
if sys.argv[1:] == ["leave"]:
    while len([n for n in os.listdir("pids") if "." not in n]) < 6:
        time.sleep(0.01)
    sys.exit(0)
while True:
    time.sleep(60)
"""


def wait_for(true: Callable[[], bool], what: str) -> None:
    """Wait until something is true, or fail."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def tree(folder: Path) -> dict[str, int]:
    """The processes that have told themselves."""
    with contextlib.suppress(FileNotFoundError):
        files = [path for path in (folder / "pids").iterdir() if not path.suffix]
        return {path.name: int(path.read_text()) for path in files}
    return {}


def alive(pids: dict[str, int]) -> list[str]:
    """Which of them are alive."""
    found = []
    for name, pid in pids.items():
        with contextlib.suppress(psutil.Error):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(name)
    return found


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """A function that starts the program on a command; all of it is ended with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str, **options: Any) -> subprocess.Popen[bytes]:
        (tmp_path / "tree.py").write_text(TREE)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        running.append(subprocess.Popen(command(*words), cwd=tmp_path, **pipes))
        return running[-1]

    yield start
    for one in running:
        one.kill()
    for pid in tree(tmp_path).values():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for one in running:
        one.communicate(timeout=DEADLINE_S)


CHECK = ["check", "--in-place", "--"]
TRACE = ["trace", "-o", "a.trace", "--"]
ON_TREE = [sys.executable, "tree.py"]


def grown(start: Callable[..., subprocess.Popen[bytes]], folder: Path, *words: str) -> Any:
    """Start the program on the tree; the answer is it, and the tree once it has grown."""
    program = start(*words, *ON_TREE)
    wait_for(lambda: len(tree(folder)) == ALIVE, "the tree did not grow")
    pids = tree(folder)
    assert len(alive(pids)) == ALIVE
    return program, pids


@pytest.mark.parametrize(
    ("words", "number", "code"),
    [
        pytest.param(CHECK, signal.SIGKILL, -signal.SIGKILL, id="check, SIGKILL"),
        pytest.param(CHECK, signal.SIGINT, 130, id="check, SIGINT"),
        pytest.param(CHECK, signal.SIGTERM, 130, id="check, SIGTERM"),
        pytest.param(TRACE, signal.SIGKILL, -signal.SIGKILL, id="trace, SIGKILL"),
    ],
)
def test_the_death_of_the_program_ends_every_process(
    started: Callable[..., Any],
    tmp_path: Path,
    words: list[str],
    number: signal.Signals,
    code: int,
) -> None:
    """Killed, interrupted or asked to end: sessions, daemons and the deaf end with it."""
    program, pids = grown(started, tmp_path, *words)
    program.send_signal(number)
    _, err = program.communicate(timeout=DEADLINE_S)
    assert program.returncode == code
    assert b"Traceback" not in err
    wait_for(lambda: not alive(pids), f"alive: {alive(pids)}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_supervisor_that_is_asked_to_end_ends_every_process_first(
    started: Callable[..., Any], tmp_path: Path, number: signal.Signals
) -> None:
    """The check says that nothing was seen."""
    program, pids = grown(started, tmp_path, *CHECK)
    (own,) = psutil.Process(program.pid).children()
    own.send_signal(number)
    program.communicate(timeout=DEADLINE_S)
    assert program.returncode == 3
    assert not alive(pids)


def test_a_tree_outlives_a_killing_without_stops(
    started: Callable[..., Any], tmp_path: Path
) -> None:
    """The tree itself can outlive: killing the command's process group leaves most of it."""
    program, pids = grown(started, tmp_path, *CHECK)
    (own,) = psutil.Process(program.pid).children()
    own.suspend()
    os.killpg(pids["first"], signal.SIGKILL)
    wait_for(lambda: "first" not in alive(pids), "the group was not killed")
    assert set(alive(pids)) >= {"session", "daemon", "restarting"}
    own.resume()
    program.communicate(timeout=DEADLINE_S)
    assert not alive(pids)


def test_a_run_has_a_time_limit(started: Callable[..., Any], tmp_path: Path) -> None:
    """Beyond --timeout every process is killed, the exit code is 3, and it says so."""
    program = started("check", "--in-place", "--timeout", "2", "--json", "--", *ON_TREE)
    out, _ = program.communicate(timeout=DEADLINE_S)
    assert program.returncode == 3
    assert json.loads(out)["runs"][0]["ended"] == "timeout"
    assert len(tree(tmp_path)) == ALIVE
    assert not alive(tree(tmp_path))


def test_what_a_command_leaves_behind_is_killed_and_told(
    started: Callable[..., Any], tmp_path: Path
) -> None:
    """A command that forks and leaves: its processes end with it, and the notes name them."""
    program = started("check", "--in-place", "--json", "--", *ON_TREE, "leave")
    out, _ = program.communicate(timeout=DEADLINE_S)
    assert program.returncode == 3
    assert len(tree(tmp_path)) == ALIVE
    assert not alive(tree(tmp_path))
    assert "left processes behind" in " ".join(json.loads(out)["notes"])


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_pipe_leaves_nothing_behind(
    started: Callable[..., Any], tmp_path: Path, stream: str
) -> None:
    """Nobody reads what it says: it ends, and so does every process."""
    program = started("check", "--in-place", "--timeout", "2", "--", *ON_TREE)
    getattr(program, stream).close()
    wait_for(lambda: program.poll() is not None, "it did not end")
    other = program.stderr if stream == "stdout" else program.stdout
    assert b"Traceback" not in other.read()
    wait_for(lambda: not alive(tree(tmp_path)), "processes were left")
    setattr(program, stream, None)


# What goes in and comes out


def check(folder: Path, source: str, *options: str, **more: Any) -> dict[str, Any]:
    """Check a script that is written to the folder; the answer for programs, and the exit code."""
    (folder / "script.py").write_text(source)
    words = command("check", "--in-place", "--json", *options, "--", sys.executable, "script.py")
    done = subprocess.run(
        words, cwd=folder, capture_output=True, check=False, timeout=DEADLINE_S, **more
    )
    assert b"Traceback" not in done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return {**answer, "code": done.returncode}


def test_standard_input_is_empty(tmp_path: Path) -> None:
    """What the user types is not for the command; a command that asks is told of."""
    answer = check(tmp_path, "input('name? ')", input=b"text\n")
    assert answer["code"] == 1
    assert "EOFError" in answer["sentence"]
    assert "standard input" in answer["hint"]


def test_the_terminal_cannot_be_read(tmp_path: Path) -> None:
    """A command has no terminal, also where the program has one."""
    main, other = pty.openpty()

    def with_terminal() -> None:
        os.setsid()
        fcntl.ioctl(other, termios.TIOCSCTTY, 0)

    source = "import sys\ntry: open('/dev/tty')\nexcept OSError: sys.exit(9)\nsys.exit(8)"
    answer = check(tmp_path, source, stdin=other, preexec_fn=with_terminal)
    os.close(main)
    os.close(other)
    assert answer["runs"][0]["exit code"] == 9


def test_output_that_is_no_text_is_told(tmp_path: Path) -> None:
    """The last line of a command that fails, whatever its bytes."""
    source = "import os, sys; os.write(2, b'\\xff\\xfe broken \\x00\\n'); sys.exit(5)"
    answer = check(tmp_path, source)
    assert answer["code"] == 1
    assert "exit code 5" in answer["sentence"]
    assert "broken" in answer["sentence"]


def test_a_command_that_writes_very_much_takes_no_memory(tmp_path: Path) -> None:
    """A line of 300 MB on standard error: the check stays below 400 MB, twice that if it reads."""
    source = "import os, sys\nfor _ in range(300): os.write(2, b'x' * 10**6)\nsys.exit(1)"
    (tmp_path / "script.py").write_text(source)
    words = command("check", "--in-place", "--json", "--", sys.executable, "script.py")
    # a fresh interpreter starts it: a process inherits the size of the one that it is forked from
    small = (
        "import resource, subprocess, sys\n"
        "code = subprocess.call(sys.argv[1:], stdout=2)\n"
        "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", small, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    code, kilobytes = map(int, done.stdout.split())
    assert code == 1
    assert kilobytes < 400_000
    for path in (tmp_path / "results").rglob("stderr.txt"):
        assert path.stat().st_size == 300_000_000
        path.unlink()


# The supervisor alone


def asked(folder: Path, *words: str, **more: Any) -> dict[str, Any]:
    """What the supervisor is asked for."""
    return {
        "command": list(words),
        "folder": str(folder),
        "environment": dict(os.environ),
        "records": str(folder),
        "stdout": str(folder / "out"),
        "stderr": str(folder / "err"),
        "timeout_s": DEADLINE_S,
        "stops": False,
        **more,
    }


def supervised(folder: Path, *words: str, **more: Any) -> dict[str, Any]:
    """What the supervisor answers, in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", supervisor.__name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdin
        assert program.stdout
        program.stdin.write(json.dumps(asked(folder, *words, **more)).encode() + b"\n")
        program.stdin.flush()
        answer: dict[str, Any] = json.loads(program.stdout.readline())
        program.wait(DEADLINE_S)
    return answer


def test_the_exit_code_of_a_command_is_told(tmp_path: Path) -> None:
    """By itself or by a signal."""
    assert supervised(tmp_path, "sh", "-c", "exit 4")["code"] == 4
    assert supervised(tmp_path, "sh", "-c", "kill -9 $$")["code"] == -9


@pytest.mark.parametrize("words", [["/nowhere/x"], ["."]])
def test_a_command_that_cannot_be_run_is_told(tmp_path: Path, words: list[str]) -> None:
    """What the system says of it, and no exit code."""
    answer = supervised(tmp_path, *words)
    assert (answer["code"], "why" in answer) == (None, True)


def test_the_signals_of_a_command_are_as_usual(tmp_path: Path) -> None:
    """What the supervisor does with signals is not inherited."""
    source = "import signal; print(*(signal.getsignal(n).name for n in (1, 15)))"
    answer = supervised(tmp_path, sys.executable, "-c", source)
    assert answer["code"] == 0
    assert (tmp_path / "out").read_text().count("SIG_DFL") == 2


def test_a_list_of_many_left_processes_is_bounded(tmp_path: Path) -> None:
    """Of fifty processes that are left, twenty are named and the others counted."""
    answer = supervised(
        tmp_path, "sh", "-c", "for i in $(seq 50); do sleep 600 & done", timeout_s=DEADLINE_S
    )
    assert answer["left"] == ["sleep"] * supervisor.LARGEST_LIST + ["30 more"]
