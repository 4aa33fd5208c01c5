"""A listener for each thread, for a program in which several threads train."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .stopping import POLL_S

if TYPE_CHECKING:
    from .listen import Listener


class ThreadListeners:
    """Passes everything on to the listener of the current thread, which has a record of its own.

    A single listener takes the steps of one thread at a time: the order of two is chance, and a
    training that follows another looks like a part of it.
    """

    def __init__(self, make: Callable[[str], Listener]) -> None:
        self._make = make
        self.reset()

    def reset(self) -> None:
        """Forget every listener, as a process that has just been forked must."""
        self._by_thread: WeakKeyDictionary[threading.Thread, Listener] = WeakKeyDictionary()
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()
        self._stopping = threading.Lock()
        self._own = self._new("")

    def __getattr__(self, name: str) -> Any:
        """An attribute of the listener of this thread."""
        return getattr(self._of_thread(), name)

    def finish(self, intact: Callable[[], bool] = lambda: True) -> None:
        """The program ends: finish every record."""
        for listener in list(self._listeners):
            listener.finish(intact)

    def _of_thread(self) -> Listener:
        """The listener of this thread; one that Python has not started has that of the first."""
        thread = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]
        if thread is None or thread is threading.main_thread():
            return self._own
        listener = self._by_thread.get(thread)
        if listener is None:
            listener = self._by_thread[thread] = self._new(thread.name)
        return listener

    def _new(self, name: str) -> Listener:
        listener = self._make(name)
        listener.others_stop = functools.partial(self._others_stop, listener)
        with self._lock:
            self._listeners.append(listener)
        return listener

    def _others_stop(self, own: Listener) -> None:
        """Wait until every other thread has made its steps or ended, then finish its record.

        The first thread that stops ends the process, so the others wait here.
        """
        self._stopping.acquire()
        others = [listener for listener in self._listeners if listener is not own]
        while any(listener.makes_steps() for listener in others):
            time.sleep(POLL_S)
        for listener in others:
            listener.shielded(listener.finish)
