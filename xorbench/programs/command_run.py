"""One run of the user's command under the recorder, until its last process has ended."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import xorbench
from xorbench.errors import BadFile, BadOption
from xorbench.programs.python_shim import with_shim
from xorbench.programs.saved_files import read_files, write_files
from xorbench.records.ended import Ended, write_ended
from xorbench.records.trace import PRESENCE
from xorbench.runtime import working_folder
from xorbench.runtime.process_tree import kill_all, marked
from xorbench.runtime.temporary_folder import read_owner, temporary_folder
from xorbench.runtime.working_folder import CopyPlan

SITE: Final = Path(xorbench.__file__).parent / "recorder" / "site"
SEARCHES: Final = 3  # for processes of a run whose supervisor died
SEARCH_INTERVAL_S: Final = 0.1
MOST_SAVED: Final = 1_000  # file names stored per run
CALL: Final = Path(xorbench.__file__).parent / "recorder" / "call.py"


@dataclass(frozen=True, slots=True)
class CommandRun:
    """A command and the settings of its run.

    Attributes:
        words: the command.
        folder: the working folder, or the folder whose copy is the working folder.
        copy: the files of the copy; None to run in the folder itself.
        timeout_s: the time after which it is killed (s).
    """

    words: tuple[str, ...]
    folder: Path
    copy: CopyPlan | None
    timeout_s: float

    @property
    def target(self) -> str | None:
        """The function to call; None for a command."""
        is_call = self.words[:2] == called("")[:2]
        return self.words[2] if is_call else None


@contextlib.contextmanager
def working_copy(run: CommandRun) -> Iterator[Callable[[], Path]]:
    """A function that creates the folder of the next run from scratch, at the same path."""
    if run.copy is None:
        yield lambda: run.folder
        return
    with temporary_folder() as base:
        free = shutil.disk_usage(base).free
        if free < run.copy.size_bytes:
            raise BadOption(
                f"TMPDIR: {base.parent} has {free // 2**20} MiB free, but a copy of {run.folder}"
                f" needs {run.copy.size_bytes // 2**20 + 1} MiB"
            )
        own = base / "work"
        above = [f"above-{n}" for n in range(1, working_folder.height(run.copy))]
        target = own.joinpath(*above, run.folder.resolve().name or "root")

        def fresh() -> Path:
            working_folder.remove(own)
            assert run.copy is not None
            working_folder.copy(run.copy, target)
            return target

        yield fresh


def execute(
    run: CommandRun,
    number: int,
    place: Path,
    output: Path,
    options: Mapping[str, Any],
    *,
    through: bool = False,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Ended:
    """Run the command in `place`, wait until it ends, and write its files below `output`.

    `variables` are added to its environment. With `through` it inherits the standard output and
    error of this process; else both are files.
    """
    output = output.resolve()
    # without `through` the answer lists the saved files
    before = {} if through else working_folder.file_states(place, output.parent.parent)
    records = output / "records"
    records.mkdir(parents=True)
    (records / PRESENCE).touch(0o600)  # if it is missing later, the program deleted it
    path = {**os.environ, **variables}.get("PATH", os.defpath)
    shim = {"PATH": with_shim(path, output / "shim", SITE)}
    request = {
        "command": list(run.words),
        "folder": str(place),
        "environment": {**environment(number, records, place, options), **variables, **shim},
        "records": str(records),
        "stdout": os.dup(1) if through else str(output / "stdout.txt"),
        "stderr": os.dup(2) if through else str(output / "stderr.txt"),
        "temporary": [str(p) for p in (*place.parents, output.parent) if read_owner(p) is not None],
        "timeout_s": run.timeout_s,
        "stops": options.get("stop_after") is not None or bool(options.get("die_in_save")),
    }
    try:
        answer = _supervised(request)
    finally:
        shutil.rmtree(output / "shim", ignore_errors=True)
        for name in ("stdout", "stderr"):
            if isinstance(descriptor := request[name], int):
                os.close(descriptor)
    after = {} if through else working_folder.file_states(place, output.parent.parent)
    saved = working_folder.saved_between(before, after)[:MOST_SAVED]
    if options.get("level") != "clock" and options.get("detail") is None:
        write_files(output, read_files(place, saved))
    ended = Ended(
        number=number,
        folder=output,
        how="refused" if "why" in answer else answer["how"],
        code=answer["code"],
        wall_s=answer.get("wall_s", 0.0),
        left=answer.get("left", []),
        left_pids=answer.get("left_pids", []),
        saved=saved,
        why=answer.get("why", ""),
    )
    write_ended(ended)
    return ended


def environment(
    number: int, records: Path, place: Path, options: Mapping[str, Any]
) -> dict[str, str]:
    """The user's environment variables, and the variables that load the recorder."""
    values = dict(os.environ)
    own = values.get("PYTHONPATH")
    values["PYTHONPATH"] = os.pathsep.join([str(SITE), *filter(None, [own])])
    values["XORBENCH_RUN"] = str(number)
    values["XORBENCH_RECORD"] = str(records.resolve())
    root = str(place.resolve())
    values["XORBENCH_RECORD_OPTIONS"] = json.dumps({"root": root, **options})
    return values


def _supervised(request: Mapping[str, Any]) -> dict[str, Any]:
    """Let a supervisor run the command, so that no process of the run outlives this process."""
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "xorbench.runtime.supervisor"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(xorbench.__file__).parent.parent,
        start_new_session=True,  # only this process receives Ctrl-C; it then closes the lifeline
        pass_fds=[fd for fd in (request["stdout"], request["stderr"]) if isinstance(fd, int)],
    )
    assert supervisor.stdin
    assert supervisor.stdout
    try:
        with contextlib.suppress(BrokenPipeError):  # the supervisor died; reported below
            supervisor.stdin.write(json.dumps(request).encode() + b"\n")
            supervisor.stdin.flush()
        line = supervisor.stdout.readline()
        if not line:
            raise BadFile("the supervisor of the run died", "rerun the command")
        answer: dict[str, Any] = json.loads(line)
        return answer
    finally:
        with contextlib.suppress(OSError):
            os.write(
                supervisor.stdin.fileno(), b"\n"
            )  # a missing newline means that this process died
            supervisor.stdin.close()
        if supervisor.wait():
            _kill_marked(request["records"])  # the watchdog may have died as well
        supervisor.stdout.close()


def _kill_marked(mark: str) -> None:
    """Kill the processes of a run, also one that was just starting."""
    for _ in range(SEARCHES):
        kill_all(lambda: marked(mark))
        time.sleep(SEARCH_INTERVAL_S)


def called(target: str) -> tuple[str, ...]:
    """The command that calls a function, `package.module:function`, in a fresh interpreter."""
    return (_training_python(), str(CALL), target)


@cache
def _training_python() -> str:
    """This interpreter if it has PyTorch; otherwise the first `python` on PATH."""
    if find_spec("torch") is not None:
        return sys.executable
    return shutil.which("python") or shutil.which("python3") or sys.executable
