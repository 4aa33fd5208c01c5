"""How long a rank waits for the others, and how it ends in time when its launcher stops it."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

GRACE_S: Final = 18.0  # torchrun kills half a minute after its SIGTERM
HURRIES: Final = (signal.SIGTERM, signal.SIGHUP)


class Deadline:
    """When waiting ends. A launcher that stops this rank, since another one died, moves it up."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end = clock, clock() + seconds
        self.stopping = False

    def left_s(self) -> float:
        """Seconds left, not below zero."""
        return max(0.0, self._end - self._clock())

    def over(self) -> bool:
        """Whether it has come."""
        return self.left_s() == 0

    def waited(self) -> bool:
        """Whether the ranks have had their time; of a hurry, half is kept for the rest."""
        return self.left_s() <= (GRACE_S / 2 if self.stopping else 0.0)

    def renew(self, seconds: float) -> None:
        """Begin another wait, unless in a hurry."""
        if not self.stopping:
            self._end = self._clock() + seconds

    @contextmanager
    def heeding(self) -> Iterator[None]:
        """Inside, SIGTERM and SIGHUP leave `GRACE_S` to finish; then they are as Ctrl-C.

        An ignored SIGHUP, as under `nohup`, stays ignored.
        """
        before = {number: signal.getsignal(number) for number in (*HURRIES, signal.SIGALRM)}
        for number in HURRIES:
            if (number, before[number]) != (signal.SIGHUP, signal.SIG_IGN):
                signal.signal(number, self._hurry)
        signal.signal(signal.SIGALRM, _interrupt)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hurry(self, _number: int, _frame: FrameType | None) -> None:
        if not self.stopping:
            self.stopping = True
            self._end = min(self._end, self._clock() + GRACE_S)
            signal.setitimer(signal.ITIMER_REAL, GRACE_S)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
