"""Ctrl-C, SIGTERM, or the SIGHUP of a closed terminal in the middle of a command."""

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
    """Work to the end, or until Ctrl-C, SIGTERM or SIGHUP; true where it was interrupted.

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
    """Handle SIGTERM and SIGHUP like Ctrl-C, unless the caller has a handler of its own.

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
            # inside another block, one signal is enough for both
            if (handler, signal.getsignal(number)) != (_interrupt, _pass):
                signal.signal(number, handler)


def handle_signals() -> dict[signal.Signals, Any]:
    """Handle SIGTERM and SIGHUP like Ctrl-C from now on; the earlier handlers of those it took."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    free = {number: handler for number, handler in before.items() if _is_free(number, handler)}
    for number in free:
        signal.signal(number, _interrupt)
    return free


def ignore_signals() -> None:
    """Ignore SIGTERM and SIGHUP while the program ends; Python would restore their defaults."""
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)


def _is_free(number: signal.Signals, handler: object) -> bool:
    """Whether the caller has left what is done with this signal to the program."""
    if number.name == "SIGHUP" and handler is signal.SIG_IGN:
        return False
    return handler is _interrupt or not callable(handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in HANDLED:  # a closing terminal sends several, and one could stop the cleaning up
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, _pass)
    _leave_closed_terminal()
    raise KeyboardInterrupt


def _pass(_number: int, _frame: FrameType | None) -> None:
    """Ignore a signal; what is started meanwhile does not inherit this."""


def _leave_closed_terminal() -> None:
    """Let standard streams lead nowhere where their terminal is closed: writing to it fails."""
    import termios

    for descriptor in (0, 1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, descriptor)
                os.close(null)
