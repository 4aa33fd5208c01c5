"""Every process of a run ends with the run, and the output of a run may be arbitrary."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import command

from xorbench.runtime import supervisor
from xorbench.runtime.temporary_folder import OWNER, remove_stale, this_process

DEADLINE_S = 60
ALIVE = 8  # processes of a tree

# A command whose processes try to outlive it in every possible way.
TREE = '''
import os, signal, subprocess, sys, time

def report(name):
    with open(f"pids/{name}.part", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"pids/{name}.part", f"pids/{name}")

def forked(name, prepare=lambda: None):
    if not os.fork():
        prepare()
        report(name)
        while True:
            time.sleep(60)

def ignoring():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

def daemon():
    os.setsid()
    if os.fork():
        os._exit(0)
    os.setsid()

def stopped():
    os.setsid()
    ignoring()
    report("stopped")
    os.kill(os.getpid(), signal.SIGSTOP)

BARE = """
import os, time
with open("pids/bare.part", "w") as file:
    file.write(str(os.getpid()))
os.rename("pids/bare.part", "pids/bare")
time.sleep(600)
"""

def bare():
    os.setsid()
    os.execve(sys.executable, [sys.executable, "-S", "-c", BARE], {})

os.makedirs("pids", exist_ok=True)
forked("plain")
forked("session", os.setsid)
forked("daemon", daemon)
forked("ignoring", ignoring)
forked("restarting", lambda: os.setsid() or ignoring())
forked("stopped", stopped)
forked("bare", bare)
report("first")
if sys.argv[1:] == ["leave"]:
    while len([n for n in os.listdir("pids") if "." not in n]) < 8:
        time.sleep(0.01)
    sys.exit(0)
while True:
    time.sleep(60)
'''


def wait_for(condition: Callable[[], bool], failure: str) -> None:
    """Wait until a condition is true; fail with a message after the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.02)


def tree(folder: Path) -> dict[str, int]:
    """The processes that have reported their start."""
    with contextlib.suppress(FileNotFoundError):
        files = [path for path in (folder / "pids").iterdir() if not path.suffix]
        return {path.name: int(path.read_text()) for path in files}
    return {}


def alive(pids: dict[str, int]) -> list[str]:
    """The names of the processes that are alive."""
    names = []
    for name, pid in pids.items():
        with contextlib.suppress(psutil.Error):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                names.append(name)
    return names


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """A function that starts the program on a command; the test ends all processes."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str, **options: Any) -> subprocess.Popen[bytes]:
        (tmp_path / "tree.py").write_text(TREE)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        running.append(subprocess.Popen(command(*words), cwd=tmp_path, **pipes))
        return running[-1]

    yield start
    for program in running:
        program.kill()
    for pid in tree(tmp_path).values():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for program in running:
        program.communicate(timeout=DEADLINE_S)


CHECK = ["check", "--in-place", "--"]
TRACE = ["trace", "-o", "a.trace", "--"]
ON_TREE = [sys.executable, "tree.py"]


def grown(start: Callable[..., subprocess.Popen[bytes]], folder: Path, *words: str) -> Any:
    """Start the program on the tree; return the program and the complete tree."""
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
        pytest.param(CHECK, signal.SIGHUP, 130, id="check, SIGHUP"),
        pytest.param(TRACE, signal.SIGHUP, 130, id="trace, SIGHUP"),
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
    """Whether killed, interrupted or terminated: sessions, daemons and others end with it."""
    program, pids = grown(started, tmp_path, *words)
    program.send_signal(number)
    _, err = program.communicate(timeout=DEADLINE_S)
    assert program.returncode == code
    assert b"Traceback" not in err
    wait_for(lambda: not alive(pids), f"alive: {alive(pids)}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_supervisor_ends_every_process_first(
    started: Callable[..., Any], tmp_path: Path, number: signal.Signals
) -> None:
    """The check is inconclusive."""
    program, pids = grown(started, tmp_path, *CHECK)
    (own,) = psutil.Process(program.pid).children()
    own.send_signal(number)
    program.communicate(timeout=DEADLINE_S)
    assert program.returncode == 3
    assert not alive(pids)


def test_most_of_the_tree_outlives_a_killed_process_group(
    started: Callable[..., Any], tmp_path: Path
) -> None:
    """The control: killing only the command's process group leaves most processes."""
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
    """After --timeout every process is killed, the exit code is 3, and the run says `timeout`."""
    program = started("check", "--in-place", "--timeout", "2", "--json", "--", *ON_TREE)
    out, _ = program.communicate(timeout=DEADLINE_S)
    assert program.returncode == 3
    assert json.loads(out)["runs"][0]["ended"] == "timeout"
    assert len(tree(tmp_path)) == ALIVE
    assert not alive(tree(tmp_path))


def test_remaining_processes_are_killed_and_reported(
    started: Callable[..., Any], tmp_path: Path
) -> None:
    """If a command forks and exits, its processes are killed and listed in the notes."""
    program = started("check", "--in-place", "--json", "--", *ON_TREE, "leave")
    out, _ = program.communicate(timeout=DEADLINE_S)
    assert program.returncode == 3
    assert len(tree(tmp_path)) == ALIVE
    assert not alive(tree(tmp_path))
    assert "left processes running" in " ".join(json.loads(out)["notes"])


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_pipe_leaves_nothing_behind(
    started: Callable[..., Any], tmp_path: Path, stream: str
) -> None:
    """If its output has no reader, the program ends with all its processes."""
    program = started("check", "--in-place", "--timeout", "2", "--", *ON_TREE)
    getattr(program, stream).close()
    wait_for(lambda: program.poll() is not None, "it did not end")
    open_stream = program.stderr if stream == "stdout" else program.stdout
    assert b"Traceback" not in open_stream.read()
    wait_for(lambda: not alive(tree(tmp_path)), "processes were left")
    setattr(program, stream, None)


# Copies, and the death of several processes at once


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for the program's copies."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)  # cached on first use
    return folder


def copies(temporary: Path) -> list[Path]:
    """The temporary folders of the program."""
    return sorted(temporary.glob("xorbench-*"))


def grown_in_copy(start: Callable[..., Any], temporary: Path) -> Any:
    """Start a check of the tree in a copy; return the program's processes and the tree's."""
    program = start("check", "--exclude", "temporary", "--", *ON_TREE)

    def pids() -> dict[str, int]:
        grown = [tree(path.parent) for path in temporary.glob("xorbench-*/work/*/pids")]
        return grown[0] if grown else {}

    wait_for(lambda: len(pids()) == ALIVE, "the tree did not grow")
    (own,) = psutil.Process(program.pid).children()
    (guard,) = own.children()
    return {"program": program, "supervisor": own, "watchdog": guard}, pids()


@pytest.mark.parametrize(
    "killed",
    [
        ("supervisor",),
        ("program", "supervisor"),
        ("supervisor", "program"),
        ("program", "watchdog"),
        ("supervisor", "watchdog"),
        ("watchdog", "supervisor"),
        ("program",),
    ],
    ids=" and ".join,
)
def test_killed_processes_leave_no_process_and_no_copy(
    started: Callable[..., Any], temporary: Path, killed: tuple[str, ...]
) -> None:
    """After SIGKILL of any two of the three processes, the third ends the run and cleans up."""
    processes, pids = grown_in_copy(started, temporary)
    assert len(copies(temporary)) == 1
    for name in killed:
        processes[name].kill()
    wait_for(lambda: not alive(pids), f"alive: {alive(pids)}")
    wait_for(lambda: not copies(temporary), "the copy was left")
    program = processes["program"]
    if "program" not in killed:
        _, err = program.communicate(timeout=DEADLINE_S)
        assert (program.returncode, b"the supervisor of the run died" in err) == (2, True)


def test_a_supervisor_continues_without_its_watchdog(
    started: Callable[..., Any], tmp_path: Path, temporary: Path
) -> None:
    """The exit code of the command is still reported, and its processes are ended."""
    source = """
import os, time
open("began", "w")
while not os.path.exists("guardless"):
    time.sleep(0.02)
raise SystemExit(7)
"""
    (tmp_path / "slow.py").write_text(source)
    program = started("check", "--json", "--", sys.executable, "slow.py")
    wait_for(lambda: any(temporary.rglob("began")), "it did not begin")
    (began,) = temporary.rglob("began")
    (own,) = psutil.Process(program.pid).children()
    (guard,) = own.children()
    (child,) = guard.children()
    guard.kill()
    began.with_name("guardless").touch()
    out, _ = program.communicate(timeout=DEADLINE_S)
    assert json.loads(out)["runs"][0]["exit code"] == 7
    assert not child.is_running()
    assert not copies(temporary)


def test_the_watchdog_has_its_own_session_and_imports_no_package(
    started: Callable[..., Any], temporary: Path
) -> None:
    """There are four sessions; the watchdog loads no file of `site-packages`."""
    processes, _ = grown_in_copy(started, temporary)
    own, guard = processes["supervisor"], processes["watchdog"]
    (command_,) = [p for p in guard.children() if "tree.py" in p.cmdline()][:1]
    sessions = {os.getsid(p.pid) for p in (processes["program"], own, guard, command_)}
    assert len(sessions) == 4
    assert not [m.path for m in guard.memory_maps() if "site-packages" in m.path]


def test_a_closed_terminal_ends_every_process(
    started: Callable[..., Any], tmp_path: Path, temporary: Path
) -> None:
    """The exit code is 130 after SIGHUP although writes fail, and records are kept."""
    main, terminal = pty.openpty()

    def with_terminal() -> None:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    def start(*words: str) -> Any:
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
        return started(*words, **streams, preexec_fn=with_terminal)

    processes, pids = grown_in_copy(start, temporary)
    os.close(terminal)
    os.close(main)
    program = processes["program"]
    for _ in range(5):  # the shell sends it as well
        program.send_signal(signal.SIGHUP)
        time.sleep(0.02)
    assert program.wait(DEADLINE_S) == 130
    assert not alive(pids)
    assert not copies(temporary)
    assert list((tmp_path / "results" / "checks").glob("*/check.json"))


def test_an_ignored_hangup_stays_ignored(started: Callable[..., Any], tmp_path: Path) -> None:
    """Under `nohup` the program continues after its terminal is closed."""
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    program = started(*CHECK, *ON_TREE, preexec_fn=ignore)
    wait_for(lambda: len(tree(tmp_path)) == ALIVE, "the tree did not grow")
    program.send_signal(signal.SIGHUP)
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=DEADLINE_S)
    assert program.returncode == 130


OWNED = """
import sys, time
from xorbench.runtime.temporary_folder import temporary_folder
with temporary_folder() as folder:
    (folder / "copy").mkdir()
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def owned(temporary: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that owns a temporary folder, and the folder."""
    assert temporary.is_dir()
    with subprocess.Popen(
        [sys.executable, "-c", OWNED], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def changed_owner(folder: Path, **values: object) -> None:
    """Change the recorded owner."""
    path = folder / OWNER
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_folder_of_a_living_owner_is_kept(owned: tuple[Any, Path]) -> None:
    """The next start after the owner's death removes it."""
    process, folder = owned
    remove_stale()
    assert (folder / "copy").is_dir()
    process.kill()
    process.wait()
    remove_stale()
    assert not folder.exists()


def test_the_folder_of_a_zombie_is_removed(owned: tuple[Any, Path]) -> None:
    """An owner that has not been waited for counts as dead."""
    process, folder = owned
    process.kill()
    wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE, "no zombie")
    remove_stale()
    assert not folder.exists()


def test_a_reused_process_id_is_a_different_process(owned: tuple[Any, Path]) -> None:
    """By its start time: the folder of an earlier process with this id is removed."""
    _, folder = owned
    changed_owner(folder, started="1")
    remove_stale()
    assert not folder.exists()


def test_the_folder_of_an_owner_before_a_restart_is_removed(owned: tuple[Any, Path]) -> None:
    """Process ids and start times are unique only until a restart."""
    _, folder = owned
    changed_owner(folder, boot="another")
    remove_stale()
    assert not folder.exists()


@pytest.mark.parametrize(
    "values", [{"machine": "another"}, {"namespace": "pid:[1]"}, {"pid": "1"}, {"started": None}]
)
def test_the_folder_of_an_unknown_owner_is_kept(
    owned: tuple[Any, Path], values: dict[str, object]
) -> None:
    """The owner is on another machine or in another container, or its record is damaged."""
    process, folder = owned
    process.kill()
    process.wait()
    changed_owner(folder, **values)
    remove_stale()
    assert folder.is_dir()


@pytest.mark.parametrize("content", [None, "", "[1]", "{}", "[" * 5_000])
def test_a_folder_without_a_readable_owner_is_kept(temporary: Path, content: str | None) -> None:
    """It may belong to another program."""
    folder = temporary / "xorbench-mine"
    (folder / "kept").mkdir(parents=True)
    if content is not None:
        (folder / OWNER).write_text(content)
    set_age(folder, 600)
    remove_stale()
    assert folder.is_dir()


@pytest.mark.parametrize(("age_s", "kept"), [(10, True), (600, False)])
def test_an_empty_folder_is_removed_a_minute_later(
    temporary: Path, age_s: float, kept: bool
) -> None:
    """Its owner died between making and recording it, or at the end of its removal."""
    folder = temporary / "xorbench-empty"
    folder.mkdir()
    set_age(folder, age_s)
    remove_stale()
    assert folder.exists() == kept


def set_age(folder: Path, age_s: float) -> None:
    """Set the time of the last change of a folder."""
    os.utime(folder, (0, time.time() - age_s))


def test_a_folder_of_another_user_is_kept(
    owned: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content of its record does not matter."""
    process, folder = owned
    process.kill()
    process.wait()
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    remove_stale()
    assert folder.is_dir()


def test_several_processes_can_remove_stale_folders_at_once(temporary: Path) -> None:
    """Files that disappear concurrently are not an error, and all folders are removed."""
    for number in range(40):
        folder = temporary / f"xorbench-{number}"
        (folder / "deep" / "er").mkdir(parents=True)
        for name in range(20):
            (folder / "deep" / "er" / str(name)).touch()
        (folder / OWNER).write_text(json.dumps({**this_process(), "started": "1"}))
    source = "from xorbench.runtime.temporary_folder import remove_stale; remove_stale()"
    processes = [subprocess.Popen([sys.executable, "-c", source]) for _ in range(3)]
    assert [process.wait(DEADLINE_S) for process in processes] == [0, 0, 0]
    assert not copies(temporary)


# Input and output


def check(folder: Path, source: str, *options: str, **more: Any) -> dict[str, Any]:
    """Check a script in the folder; return the JSON answer and the exit code."""
    (folder / "script.py").write_text(source)
    words = command("check", "--in-place", "--json", *options, "--", sys.executable, "script.py")
    done = subprocess.run(
        words, cwd=folder, capture_output=True, check=False, timeout=DEADLINE_S, **more
    )
    assert b"Traceback" not in done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return {**answer, "code": done.returncode}


def test_standard_input_is_empty(tmp_path: Path) -> None:
    """The command does not get the user's input; the hint explains the error."""
    answer = check(tmp_path, "input('name? ')", input=b"text\n")
    assert answer["code"] == 1
    assert "EOFError" in answer["sentence"]
    assert "standard input" in answer["hint"]


def test_the_terminal_cannot_be_read(tmp_path: Path) -> None:
    """A command has no terminal, also if the program has one."""
    main, terminal = pty.openpty()

    def with_terminal() -> None:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    source = "import sys\ntry: open('/dev/tty')\nexcept OSError: sys.exit(9)\nsys.exit(8)"
    answer = check(tmp_path, source, stdin=terminal, preexec_fn=with_terminal)
    os.close(main)
    os.close(terminal)
    assert answer["runs"][0]["exit code"] == 9


def test_invalid_bytes_in_output_are_reported(tmp_path: Path) -> None:
    """The answer has the last line of a failed command, also with invalid bytes."""
    source = "import os, sys; os.write(2, b'\\xff\\xfe broken \\x00\\n'); sys.exit(5)"
    answer = check(tmp_path, source)
    assert answer["code"] == 1
    assert "exit code 5" in answer["sentence"]
    assert "broken" in answer["sentence"]


def test_a_large_output_takes_no_memory(tmp_path: Path) -> None:
    """With a line of 300 MB on standard error, the check uses less than 400 MB."""
    source = "import os, sys\nfor _ in range(300): os.write(2, b'x' * 10**6)\nsys.exit(1)"
    (tmp_path / "script.py").write_text(source)
    words = command("check", "--in-place", "--json", "--", sys.executable, "script.py")
    # started by a fresh interpreter, since a process inherits the peak memory of its parent
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


# The supervisor on its own


def request(folder: Path, *words: str, **more: Any) -> dict[str, Any]:
    """A request to the supervisor."""
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
    """The answer of the supervisor, in its own process."""
    with subprocess.Popen(
        [sys.executable, "-m", supervisor.__name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdin
        assert program.stdout
        program.stdin.write(json.dumps(request(folder, *words, **more)).encode() + b"\n")
        program.stdin.flush()
        answer: dict[str, Any] = json.loads(program.stdout.readline())
        program.wait(DEADLINE_S)
    return answer


def test_the_exit_code_of_a_command_is_reported(tmp_path: Path) -> None:
    """After a normal exit or a signal."""
    assert supervised(tmp_path, "sh", "-c", "exit 4")["code"] == 4
    assert supervised(tmp_path, "sh", "-c", "kill -9 $$")["code"] == -9


@pytest.mark.parametrize("words", [["/nowhere/x"], ["."]])
def test_a_command_that_cannot_be_run_has_a_reason(tmp_path: Path, words: list[str]) -> None:
    """The answer has the system's message and no exit code."""
    answer = supervised(tmp_path, *words)
    assert (answer["code"], "why" in answer) == (None, True)


def test_a_command_has_the_default_signal_handlers(tmp_path: Path) -> None:
    """It does not inherit the supervisor's handlers."""
    source = "import signal; print(*(signal.getsignal(n).name for n in (1, 15)))"
    answer = supervised(tmp_path, sys.executable, "-c", source)
    assert answer["code"] == 0
    assert (tmp_path / "out").read_text().count("SIG_DFL") == 2


def test_a_long_list_of_remaining_processes_is_shortened(tmp_path: Path) -> None:
    """With fifty remaining processes, twenty are named and the rest counted."""
    answer = supervised(
        tmp_path, "sh", "-c", "for i in $(seq 50); do sleep 600 & done", timeout_s=DEADLINE_S
    )
    assert answer["left"] == ["sleep"] * supervisor.LARGEST_LIST + ["30 more"]
