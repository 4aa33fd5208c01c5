"""Ctrl-C, or a polite kill, in the middle of a command."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from xorbench.commands.progress import Bar, Lines, Quiet  # rich takes a tenth of a second


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
