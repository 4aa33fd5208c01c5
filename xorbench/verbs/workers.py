"""The worker processes of a verb: started, ended with it, and left when the user says stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from xorbench.errors import BadOption
from xorbench.measure.pool import OperationFailed, Worker, WorkerDied
from xorbench.measure.runner import Slot, StartWorker
from xorbench.measure.staging import staged
from xorbench.plan.case import Setting
from xorbench.verbs.progress import Bar, Lines, Quiet


def starter(
    log_path: Callable[[str], Path], timeout_s: float, operations: str = "operations"
) -> StartWorker:
    """A function that starts a worker by name and setting."""
    rooms = staged()

    def start(name: str, setting: Setting) -> Worker:
        return Worker(
            name,
            setting,
            rooms=rooms,
            log=log_path(name),
            timeout_s=timeout_s,
            operations=operations,
        )

    return start


@contextmanager
def running(
    slots: list[Slot], start: StartWorker, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Fill every slot with a configured worker; none outlives the block.

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
            if slot.worker:
                with suppress(OSError):
                    slot.worker.kill()


def _configure(slot: Slot) -> None:
    try:
        slot.configured()
    except (WorkerDied, OperationFailed) as error:
        raise BadOption(
            f"worker {slot.name} could not start: {error}",
            "python -m xorbench env --debug shows what its PyTorch says",
        ) from None


def until_interrupted(work: Callable[[], None], progress: Bar | Lines | Quiet, rest: str) -> bool:
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
    """Take a polite kill for a Ctrl-C, unless somebody has already said what it is to be."""
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
