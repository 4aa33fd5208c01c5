"""One run of the user's command under the recorder, until its last process has ended."""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import xorbench
from xorbench.errors import BadOption
from xorbench.programs.python_shim import with_shim
from xorbench.programs.saved_files import read_files, write_files
from xorbench.records.ended import Ended, write_ended
from xorbench.records.trace import PRESENCE
from xorbench.runtime import working_folder
from xorbench.runtime.supervision import Supervision
from xorbench.runtime.temporary_folder import read_owner, temporary_folder
from xorbench.runtime.working_folder import CopyPlan

SITE: Final = Path(xorbench.__file__).parent / "recorder" / "site"
MOST_SAVED: Final = 1_000  # file names stored per run
Fresh = Callable[..., Path]
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
def working_copy(run: CommandRun) -> Iterator[Fresh]:
    """A function that creates the folder of the next run from scratch, at the same path.

    Runs at the same time need folders of their own: the function takes a suffix of the path.
    """
    if run.copy is None:
        yield lambda _suffix="": run.folder
        return
    with temporary_folder() as base:
        free = shutil.disk_usage(base).free
        if free < run.copy.size_bytes:
            raise BadOption(
                f"TMPDIR: {base.parent} has {free // 2**20} MiB free, but a copy of {run.folder}"
                f" needs {run.copy.size_bytes // 2**20 + 1} MiB"
            )
        above = [f"above-{n}" for n in range(1, working_folder.height(run.copy))]

        def fresh(suffix: str = "") -> Path:
            own = base / f"work{suffix}"
            target = own.joinpath(*above, run.folder.resolve().name or "root")
            working_folder.remove(own)
            assert run.copy is not None
            working_folder.copy(run.copy, target)
            return target

        yield fresh


class StartedRun:
    """A run of a command in `place` that has been started; its files are below `output`.

    `variables` are added to its environment. With `through` it inherits the standard output and
    error of this process; else both are files.
    """

    def __init__(
        self,
        run: CommandRun,
        number: int,
        place: Path,
        output: Path,
        options: Mapping[str, Any],
        *,
        through: bool = False,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._number, self._place, self._output = number, place, output.resolve()
        self._through = through
        self._reads_files = options.get("level") != "clock" and options.get("detail") is None
        self._before = self._file_states()  # the answer lists the saved files
        records = self._output / "records"
        records.mkdir(parents=True, exist_ok=True)
        (records / PRESENCE).touch(0o600)  # if it is missing later, the program deleted it
        path = {**os.environ, **variables}.get("PATH", os.defpath)
        shim = {"PATH": with_shim(path, self._output / "shim", SITE)}
        folders = (*place.parents, self._output.parent)
        request = {
            "command": list(run.words),
            "folder": str(place),
            "environment": {**environment(number, records, place, options), **variables, **shim},
            "records": str(records),
            "stdout": os.dup(1) if through else str(self._output / "stdout.txt"),
            "stderr": os.dup(2) if through else str(self._output / "stderr.txt"),
            "temporary": [str(folder) for folder in folders if read_owner(folder) is not None],
            "timeout_s": run.timeout_s,
            "stops": options.get("stop_after") is not None or bool(options.get("die_in_save")),
        }
        try:
            self.supervision = Supervision(request)
        finally:
            for name in ("stdout", "stderr"):
                if isinstance(descriptor := request[name], int):
                    os.close(descriptor)

    def close(self) -> None:
        """End the processes of the run and of its supervisor."""
        self.supervision.close()
        shutil.rmtree(self._output / "shim", ignore_errors=True)

    def ended(self, answer: Mapping[str, Any]) -> Ended:
        """The end of the run by the answer of its supervisor, also written to its folder."""
        after = self._file_states()
        saved = working_folder.saved_between(self._before, after)[:MOST_SAVED]
        if self._reads_files:
            removed = [path for path in self._before if path not in after][:MOST_SAVED]
            write_files(self._output, read_files(self._place, saved), removed)
        ended = Ended(
            number=self._number,
            folder=self._output,
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

    def _file_states(self) -> dict[str, Any]:
        if self._through:
            return {}
        return working_folder.file_states(self._place, self._output.parent.parent)


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
    """Run the command as `StartedRun` describes, and wait until it ends."""
    started = StartedRun(run, number, place, output, options, through=through, variables=variables)
    try:
        answer = started.supervision.wait()
    finally:
        started.close()
    return started.ended(answer)


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


def called(target: str) -> tuple[str, ...]:
    """The command that calls a function, `package.module:function`, in a fresh interpreter."""
    return (training_python(), str(CALL), target)


@cache
def training_python() -> str:
    """This interpreter if it has PyTorch; otherwise the first `python` on PATH."""
    if find_spec("torch") is not None:
        return sys.executable
    return shutil.which("python") or shutil.which("python3") or sys.executable
