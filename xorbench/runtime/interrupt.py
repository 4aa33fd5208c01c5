"""Handles Ctrl-C, SIGTERM, and the SIGHUP of a closed terminal, during a command."""

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from xorbench.runtime.slots import Progress  # its imports are slow

NAMES: Final = ("SIGTERM", "SIGHUP")
HANDLED: Final = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))


def until_interrupted(work: Callable[[], None], progress: "Progress", rest: str) -> bool:
    """Call `work`; return whether Ctrl-C, SIGTERM or SIGHUP interrupted it.

    `rest` is the command that completes the work.
    """
    try:
        with terminable():
            work()
    except KeyboardInterrupt:
        progress.note(f"interrupted; continue with python -m xorbench {rest}")
        return True
    finally:
        progress.end()
    return False


@contextmanager
def terminable() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP as Ctrl-C unless a handler is already installed.

    An ignored SIGHUP, as under `nohup`, stays ignored. Only the main thread may set handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = handle_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            # in nested blocks, one signal interrupts both
            if (handler, signal.getsignal(number)) != (_interrupt, _pass):
                signal.signal(number, handler)


def handle_signals() -> dict[signal.Signals, Any]:
    """Treat SIGTERM and SIGHUP as Ctrl-C from now on; return the handlers that were replaced."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    free = {number: handler for number, handler in before.items() if _is_free(number, handler)}
    for number in free:
        signal.signal(number, _interrupt)
    return free


def ignore_signals() -> None:
    """Ignore SIGTERM and SIGHUP while the program ends, when Python would restore the defaults."""
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)


def _is_free(number: signal.Signals, handler: object) -> bool:
    """Whether this program may handle the signal: no other handler is installed."""
    if number.name == "SIGHUP" and handler is signal.SIG_IGN:
        return False
    return handler is _interrupt or not callable(handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in HANDLED:  # a closing terminal sends several; a second could stop the clean-up
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, _pass)
    _leave_closed_terminal()
    raise KeyboardInterrupt


def _pass(_number: int, _frame: FrameType | None) -> None:
    """Ignore a signal; unlike SIG_IGN, child processes do not inherit this."""


def _leave_closed_terminal() -> None:
    """Redirect standard streams of a closed terminal to the null device: writes would fail."""
    import termios

    for descriptor in (0, 1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, descriptor)
                os.close(null)
