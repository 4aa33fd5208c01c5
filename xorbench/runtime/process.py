"""A training process and its pipes: start, requests, time-outs and death."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from xorbench.errors import CHECK_FAILED, XorbenchError
from xorbench.process import protocol
from xorbench.xor.matrix.case import ProcessConfig

CUBLAS_WORKSPACE: Final = ":4096:8"  # required by PyTorch for a deterministic cuBLAS
ERROR_CHARACTERS: Final = 300  # of a process's error in verdicts and reports
START_S: Final = 120.0
STOP_S: Final = 10.0


class ProcessDied(XorbenchError):
    """The process has died; the message is the cause."""

    exit_code = CHECK_FAILED


class OperationFailed(XorbenchError):
    """The process reported an error for one operation and is still alive."""

    exit_code = CHECK_FAILED


class Process:
    """A fresh interpreter with one config. Its output is written to `log`.

    `operations` is the name of the module of `xorbench.process` with the operations.
    """

    def __init__(
        self,
        name: str,
        config: ProcessConfig,
        *,
        packages: Path,
        log: Path,
        timeout_s: float,
        operations: str = "operations",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._log = log
        self._timeout_s = timeout_s
        self._clock = clock
        self._last_request = 0
        self._unread = b""
        inherited, own = _pipes()
        self._requests, self._answers, self._lifeline = own
        try:
            with log.open("ab") as output:
                descriptors = map(str, inherited)
                self.popen = subprocess.Popen(
                    [interpreter(config), "-m", "xorbench.process", *descriptors, operations],
                    pass_fds=inherited,
                    cwd=packages,
                    env=environment(config, packages),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches the orchestrator only
                )
        except BaseException:
            self._close_pipes()
            raise
        finally:
            for descriptor in inherited:
                os.close(descriptor)

    def ask(self, op: str, **args: Any) -> dict[str, Any]:
        """Request an operation and wait; raises `OperationFailed` or `ProcessDied`."""
        self.post(op, **args)
        return self.answer()

    def post(self, op: str, **args: Any) -> None:
        """Request an operation without waiting; raises `ProcessDied` if the process is dead."""
        if self._requests < 0:
            raise ProcessDied("it had already died")
        self._last_request += 1
        with contextlib.suppress(BrokenPipeError):  # `answer` raises
            os.write(self._requests, protocol.request(self._last_request, op, args))

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to a posted request; raises `OperationFailed` or `ProcessDied`.

        The first answer may take `START_S` regardless of the time-out, to import PyTorch.
        """
        wait_s = max(self._timeout_s, START_S) if self._last_request == 1 else self._timeout_s
        message = protocol.read(self._line(wait_s))
        if "error" in message:
            error = message["error"]
            raise OperationFailed(self._shortened(f"{error['type']}: {error['message']}"))
        result: dict[str, Any] = message["ok"]
        return result

    def _shortened(self, text: str) -> str:
        """An error on one line; a long one is truncated, since the log has the whole text."""
        line = " ".join(text.split())
        if len(line) <= ERROR_CHARACTERS:
            return line
        beginning = line[:ERROR_CHARACTERS].rstrip()
        return f"{beginning} … ({len(line):,} characters in {self._log.name})"

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.popen.poll() is None

    def stop(self) -> None:
        """Let the process end on its own, or kill it after `STOP_S`."""
        with contextlib.suppress(OSError):
            os.close(self._requests)
            self._requests = -1
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP_S)
        self.kill()

    def kill(self) -> None:
        """End the process and all its children at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self._close_pipes()

    def _line(self, wait_s: float) -> bytes:
        deadline = self._clock() + wait_s
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - self._clock()))
            if not ready:
                self.kill()
                raise ProcessDied(f"no answer within {wait_s:g} s, so it was killed")
            received = os.read(self._answers, 1 << 20)
            if not received:
                raise self._death()
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _death(self) -> ProcessDied:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP_S)  # the pipe closes shortly before the process ends
        code = self.popen.poll()
        self.kill()
        last = self._last_line() if code and code > 0 else ""
        return ProcessDied(_end_text(code) + (f": {last}" if last else ""))

    def _last_line(self) -> str:
        """The last line of the log, which is the error if Python failed."""
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")[:200]
        return ""

    def _close_pipes(self) -> None:
        for name in ("_requests", "_answers", "_lifeline"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
                setattr(self, name, -1)


def _pipes() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Three pipes for requests, answers and lifeline: the ends of the process, then our own."""
    opened: list[int] = []
    try:
        for _ in range(3):
            opened += os.pipe()
    except OSError:  # too many open files
        for descriptor in opened:
            os.close(descriptor)
        raise
    request_read, request_write, answer_read, answer_write, life_read, life_write = opened
    return (request_read, answer_write, life_read), (request_write, answer_read, life_write)


def environment(config: ProcessConfig, packages: Path) -> dict[str, str]:
    """A process's environment variables with its config.

    The process runs in a different folder, so relative paths in `PATH_LISTS`, `TMPDIR` and
    `LD_PRELOAD` are made absolute.
    """
    values = dict(os.environ)
    values["PYTHONFAULTHANDLER"] = "1"  # writes the traceback of a segmentation fault to the log
    if config.deterministic:
        values.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    for variable in config.env:
        name, _, value = variable.partition("=")
        values[name] = value
        if not value:
            del values[name]
    for name, absolute in RELATIVE.items():
        if values.get(name):
            values[name] = absolute(values[name])
    paths = [_absolute(str(packages)), *filter(None, [values.get("PYTHONPATH")])]
    values["PYTHONPATH"] = os.pathsep.join(paths)
    return values


def _absolute(path: str) -> str:
    """The absolute path, without resolving links; an empty path is the current folder."""
    return path if Path(path).is_absolute() else str(Path.cwd() / path)


def _absolute_list(paths: str) -> str:
    return os.pathsep.join(map(_absolute, paths.split(os.pathsep)))


def _absolute_preload(libraries: str) -> str:
    """Make paths absolute; a name without a slash is searched for, so it is unchanged."""
    return re.sub(r"[^\s:]*/[^\s:]*", lambda match: _absolute(match[0]), libraries)


PATH_LISTS: Final = ("PYTHONPATH", "PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
RELATIVE: Final[dict[str, Callable[[str], str]]] = {
    **dict.fromkeys(PATH_LISTS, _absolute_list),
    "LD_PRELOAD": _absolute_preload,
    "TMPDIR": _absolute,
}
"""Variables with paths, and the functions that make these absolute."""


def interpreter(config: ProcessConfig) -> str:
    """The path of the Python interpreter for this config."""
    return sys.executable if config.python is None else config.python.partition("=")[2]


def _end_text(code: int | None) -> str:
    if code is None:
        return "closed its pipe"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exited with code {code}"
