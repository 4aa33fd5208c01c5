"""The progress of a run on standard error: a bar on a terminal, otherwise lines."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from rich import progress as rich_progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from xorbench.errors import printable
from xorbench.runtime.slots import Progress

LINE_EVERY_S: Final = 10.0


class Bar(Progress):
    """A live bar with the remaining time, for terminals."""

    def __init__(self) -> None:
        self._bar = rich_progress.Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs,"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("training", total=None)

    def begin(self, epochs: int) -> None:
        """Show the bar."""
        self._bar.update(self._task, total=epochs, completed=0)
        self._bar.start()

    def advance(self, epochs: int) -> None:
        """Move the bar."""
        self._bar.advance(self._task, epochs)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(f"xorbench: {printable(text)}", markup=False, highlight=False)

    def end(self) -> None:
        """Remove the bar."""
        self._bar.stop()


class Lines(Progress):
    """A plain line every ten seconds, for logs and pipes.

    The remaining time is shown from the second epoch on, since the first includes the start-up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._total = self._done = self._first = 0
        self._begun = self._last = clock()

    def begin(self, epochs: int) -> None:
        """Print the number of epochs."""
        self._total, self._done, self._first = epochs, 0, 0
        self._begun = self._last = self._clock()
        self.note(f"training {epochs:,} epochs")

    def advance(self, epochs: int) -> None:
        """Print the progress if the last line is `LINE_EVERY_S` old."""
        now = self._clock()
        self._done += epochs
        if self._first == 0:
            self._first, self._begun = self._done, now
        elif now - self._last >= LINE_EVERY_S and self._done <= self._total:
            self._last = now
            left = (now - self._begun) * (self._total - self._done) / (self._done - self._first)
            self.note(f"{self._done / self._total:.0%} done, about {left:.0f} s left")

    def note(self, text: str) -> None:
        """Print a line; the work continues if standard error is closed."""
        with suppress(OSError, ValueError):
            sys.stderr.write(f"xorbench: {printable(text)}\n")
            sys.stderr.flush()


def for_stream() -> Progress:
    """A bar if standard error is a terminal and NO_COLOR is not set, else lines."""
    plain = bool(os.environ.get("NO_COLOR")) or not sys.stderr.isatty()
    return Lines() if plain else Bar()
