"""The deadline of a rank that waits for the others, shortened when the launcher stops it."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

GRACE_S: Final = 18.0  # torchrun sends SIGKILL half a minute after SIGTERM
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


class Deadline:
    """The end of waiting. It moves up when the launcher stops this rank because another died."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end = clock, clock() + seconds
        self.stopping = False

    def left_s(self) -> float:
        """Seconds left, not below zero."""
        return max(0.0, self._end - self._clock())

    def over(self) -> bool:
        """Whether the deadline has passed."""
        return self.left_s() == 0

    def waited(self) -> bool:
        """Whether to stop collecting records; while stopping, half of `GRACE_S` remains."""
        return self.left_s() <= (GRACE_S / 2 if self.stopping else 0.0)

    def renew(self, seconds: float) -> None:
        """Start another wait, unless the rank is being stopped."""
        if not self.stopping:
            self._end = self._clock() + seconds

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Within the context, SIGTERM and SIGHUP interrupt like Ctrl-C, but only after `GRACE_S`.

        SIGHUP stays ignored if it was ignored before, as under `nohup`.
        """
        before = {number: signal.getsignal(number) for number in (*STOP_SIGNALS, signal.SIGALRM)}
        for number in STOP_SIGNALS:
            if (number, before[number]) != (signal.SIGHUP, signal.SIG_IGN):
                signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, _interrupt)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if not self.stopping:
            self.stopping = True
            self._end = min(self._end, self._clock() + GRACE_S)
            signal.setitimer(signal.ITIMER_REAL, GRACE_S)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
