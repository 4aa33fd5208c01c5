"""The processes of a command: started, ended with it, and left when the user says stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from xorbench.errors import BadOption
from xorbench.measure.process import OperationFailed, Process, ProcessDied
from xorbench.measure.slots import ProcessSlot, StartProcess
from xorbench.measure.staging import staged
from xorbench.plan.case import ProcessConfig

if TYPE_CHECKING:
    from xorbench.commands.progress import Bar, Lines, Quiet  # rich takes a tenth of a second


def starter(
    log_path: Callable[[str], Path], timeout_s: float, operations: str = "operations"
) -> StartProcess:
    """A function that starts a process by name and config."""
    packages = staged()

    def start(name: str, config: ProcessConfig) -> Process:
        return Process(
            name,
            config,
            packages=packages,
            log=log_path(name),
            timeout_s=timeout_s,
            operations=operations,
        )

    return start


@contextmanager
def running(
    slots: list[ProcessSlot], start: StartProcess, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Fill every slot with a configured process; none outlives the block.

    `meanwhile` is called once all have been started: importing PyTorch takes them a while.
    """
    try:
        for slot in slots:
            slot.launch(start)
        meanwhile()
        for slot in slots:
            _configure(slot)
        yield
    finally:
        for slot in slots:
            if slot.process:
                with suppress(OSError):
                    slot.process.kill()


def _configure(slot: ProcessSlot) -> None:
    try:
        slot.configured()
    except (ProcessDied, OperationFailed) as error:
        raise BadOption(
            f"process {slot.name} could not start: {error}",
            "python -m xorbench env --debug shows what its PyTorch says",
        ) from None


def until_interrupted(work: Callable[[], None], progress: "Bar | Lines | Quiet", rest: str) -> bool:
    """Work to the end, or until Ctrl-C or a polite kill; true where it was interrupted.

    `rest` is the command that does what is left.
    """
    try:
        with terminable():
            work()
    except KeyboardInterrupt:
        progress.note(f"interrupted; python -m xorbench {rest} does the rest")
        return True
    finally:
        progress.end()
    return False


@contextmanager
def terminable() -> Iterator[None]:
    """Take a polite kill for a Ctrl-C, unless somebody has already said what it is to be.

    Only the main thread may say so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    if callable(before) and before is not _interrupt:
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
