"""The owner's side of a supervised run: start, stop, continue, end."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import xorbench
from xorbench.errors import BadFile
from xorbench.runtime.pause import CONTINUE, STOP
from xorbench.runtime.process_tree import kill_all, marked

END: Final = b"\n"  # ends the run; a closed lifeline without it means that the owner died
SEARCHES: Final = 3  # for processes of a run whose supervisor died
SEARCH_INTERVAL_S: Final = 0.1
READ_BYTES: Final = 1 << 16


class Supervision:
    """A supervisor that runs a command, so that no process of the run outlives this process."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._mark = request["records"]
        self._buffer = b""
        self._answer: dict[str, Any] | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "xorbench.runtime.supervisor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=Path(xorbench.__file__).parent.parent,
            start_new_session=True,  # Ctrl-C reaches only this process
            pass_fds=[fd for fd in (request["stdout"], request["stderr"]) if isinstance(fd, int)],
        )
        self._send(json.dumps(request).encode() + b"\n")

    @property
    def descriptor(self) -> int:
        """The descriptor that becomes readable with the next message."""
        assert self._process.stdout
        return self._process.stdout.fileno()

    @property
    def answer(self) -> dict[str, Any] | None:
        """How the run ended; None before its end is known."""
        return self._answer

    def stop(self) -> dict[str, Any] | None:
        """Stop the processes of the run; return the reply, None if the run has ended."""
        return self._asked(STOP)

    def resume(self) -> dict[str, Any] | None:
        """Continue the processes of the run; return the reply, None if the run has ended."""
        return self._asked(CONTINUE)

    def end(self) -> dict[str, Any]:
        """End the run if it has not ended; return how it ended."""
        if self._answer is None:
            self._send(END)
        return self.wait()

    def wait(self) -> dict[str, Any]:
        """How the run ended, once it has; raises `BadFile` if the supervisor died."""
        while self._answer is None:
            self._message()
        return self._answer

    def close(self) -> None:
        """End the run and the supervisor."""
        assert self._process.stdin
        assert self._process.stdout
        self._send(END)
        self._process.stdin.close()
        if self._process.wait():
            _kill_marked(self._mark)  # the watchdog may have died as well
        self._process.stdout.close()

    def _asked(self, request: bytes) -> dict[str, Any] | None:
        if self._answer is not None:
            return None
        self._send(request)
        return self._message()

    def _send(self, data: bytes) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):  # the supervisor died; reported with its answer
            while data:
                data = data[os.write(self._process.stdin.fileno(), data) :]

    def _message(self) -> dict[str, Any] | None:
        """The next reply; None if the message is the answer. Raises `BadFile`."""
        while b"\n" not in self._buffer:
            data = os.read(self.descriptor, READ_BYTES)
            if not data:
                raise BadFile("the supervisor of the run died", "rerun the command")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if "reply" in message:
            return message
        self._answer = message
        return None


def _kill_marked(mark: str) -> None:
    """Kill the processes of a run, also one that was just starting."""
    for _ in range(SEARCHES):
        kill_all(lambda: marked(mark))
        time.sleep(SEARCH_INTERVAL_S)
