"""How long a rank waits for the others, and how it ends in time when its launcher stops it."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

GRACE_S: Final = 18.0  # torchrun kills half a minute after its polite signal


class Deadline:
    """When waiting ends. A launcher that stops this rank, since another one died, moves it up."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end = clock, clock() + seconds
        self.told = False

    def left_s(self) -> float:
        """Seconds left, not below zero."""
        return max(0.0, self._end - self._clock())

    def over(self) -> bool:
        """Whether it has come."""
        return self.left_s() == 0

    def waited(self) -> bool:
        """Whether the ranks have had their time; of a hurry, half is kept for the rest."""
        return self.left_s() <= (GRACE_S / 2 if self.told else 0.0)

    def renew(self, seconds: float) -> None:
        """Begin another wait, unless in a hurry."""
        if not self.told:
            self._end = self._clock() + seconds

    @contextmanager
    def heeding(self) -> Iterator[None]:
        """Inside, SIGTERM leaves `GRACE_S` to end what was begun; then it is as Ctrl-C."""
        before = signal.signal(signal.SIGTERM, self._hurry), signal.getsignal(signal.SIGALRM)
        signal.signal(signal.SIGALRM, _interrupt)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGTERM, before[0])
            signal.signal(signal.SIGALRM, before[1])

    def _hurry(self, _number: int, _frame: FrameType | None) -> None:
        if not self.told:
            self.told = True
            self._end = min(self._end, self._clock() + GRACE_S)
            signal.setitimer(signal.ITIMER_REAL, GRACE_S)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
