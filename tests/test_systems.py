"""Linux, macOS and Windows: what is guarded, what has a fallback, what is refused.

macOS is tested where Linux can stand for it: the fallbacks run here with `sys.platform` changed.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest

import xorbench
from xorbench.machine.probes import burn
from xorbench.runtime import process_tree

PACKAGE: Final = Path(xorbench.__file__).parent
WINDOWS: Final = "import sys; sys.platform = 'win32';"
# Functions that Python documents as available on Linux and not on macOS.
LINUX_ONLY: Final = {
    *("copy_file_range", "eventfd", "fdatasync", "getrandom", "getxattr", "listxattr"),
    *("memfd_create", "pidfd_open", "pipe2", "posix_fadvise", "posix_fallocate", "removexattr"),
    *("sched_getaffinity", "sched_setaffinity", "setns", "setresuid", "setxattr", "splice"),
    *("timerfd_create", "unshare", "epoll", "prlimit", "sigtimedwait", "sigwaitinfo"),
    *("O_PATH", "O_TMPFILE", "O_DIRECT", "RUSAGE_THREAD", "CLOCK_BOOTTIME", "F_SETPIPE_SZ"),
}
# Modules that name a file of /proc, each with a fallback or only to compare paths.
PROC: Final = {
    "machine/probes/burn.py",
    "programs/conditions.py",
    "recorder/entry.py",
    "recorder/environment.py",
    "runtime/pause.py",
    "runtime/process_tree.py",
    "runtime/temporary_folder.py",
}


def trees() -> Iterator[tuple[str, ast.Module, str]]:
    """Each module: its path in the package, its tree, its source."""
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text()
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(source), source


def unguarded(tree: ast.Module, source: str) -> list[str]:
    """The functions of Linux that a module uses without `hasattr`."""
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & LINUX_ONLY
    return [name for name in sorted(used) if f', "{name}")' not in source]


def test_functions_of_linux_are_guarded() -> None:
    """A module uses one only where `hasattr` finds it."""
    assert {
        name: names for name, tree, source in trees() if (names := unguarded(tree, source))
    } == {}


def test_an_unguarded_function_is_seen() -> None:
    """The check itself can fail."""
    source = "import os\nos.sched_getaffinity(0)\n"
    assert unguarded(ast.parse(source), source) == ["sched_getaffinity"]


def test_modules_that_read_proc_are_known() -> None:
    """Each of them is tested below, or compares paths only."""
    reading = {
        name
        for name, tree, _ in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and str(node.value).startswith(("/proc/", "/sys/"))
    }
    formatted = {"runtime/process_tree.py"}  # its constant is /proc, or part of an f-string
    assert reading | formatted == PROC


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, with a mark, that has a child."""
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        env={**os.environ, process_tree.MARK: "of this test"},
        start_new_session=True,
    )
    while len(psutil.Process(process.pid).children()) < 1:
        pass
    yield process
    process.kill()
    process.communicate()


def test_processes_are_found_and_killed_without_proc(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By descent, session and mark, as on Linux; a killed tree leaves no process."""

    def ids() -> list[set[int]]:
        groups = (
            process_tree.descendants(os.getpid()),
            process_tree.descendants(os.getpid(), session=child.pid),
            process_tree.marked("of this test"),
        )
        return [{state.pid for state in states} for states in groups]

    with_proc = ids()
    assert all(child.pid in group and len(group) >= 2 for group in with_proc)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert ids() == with_proc
    process_tree.kill_all(lambda: process_tree.marked("of this test"))
    child.wait()
    assert process_tree.marked("of this test") == []


def test_adopting_orphans_is_left_to_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no subreaper on macOS; orphans are found by session and mark."""
    monkeypatch.setattr(sys, "platform", "darwin")
    process_tree.adopt_orphans()


def test_memory_is_half_of_all_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burn-in takes no more."""
    monkeypatch.setattr(burn, "Path", lambda _path: Path("/nonexistent"))
    assert burn._available() == psutil.virtual_memory().total // 2


def test_windows_is_refused_by_the_command() -> None:
    """One line, exit code 2, before modules that Windows lacks are imported."""
    script = f"{WINDOWS} import runpy; runpy.run_module('xorbench', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    line = "xorbench: Windows is not supported: use Linux, macOS or WSL\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


def test_windows_is_refused_in_python() -> None:
    """`xorbench.check` raises an error that states it."""
    script = f"{WINDOWS} import xorbench; xorbench.check"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "BadOption: Windows is not supported" in done.stderr
