"""Answer requests until the pipe closes; die with the orchestrator, whatever it dies of."""

import gc
import importlib
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from xorbench.process import protocol


def watch(lifeline: int) -> None:
    """Kill this process and its children as soon as the orchestrator's end of the pipe closes.

    A reader that blocks costs nothing, and it notices what no handler can: a `kill -9`.
    """

    def wait() -> NoReturn:
        os.read(lifeline, 1)
        os.killpg(os.getpgid(0), signal.SIGKILL)
        raise AssertionError("unreachable")

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def without_collections() -> Iterator[None]:
    """Import without collections, and have what is there then never walked by one.

    PyTorch and its compiler make a million objects that stay: to walk them takes a seventh of the
    import, and would take time of timed epochs.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def serve(requests: int, answers: int, operations: str) -> None:
    """Read requests from one descriptor and write answers to the other, in order.

    `operations` is the module of this package that answers: it has `OPERATIONS` and `SESSION`, what
    they share. Each imports only what it needs. Every process also answers `usage`.
    """
    with without_collections():
        module = importlib.import_module(f"xorbench.process.{operations}")
    operations_by_name = {"usage": usage, **module.OPERATIONS}
    session = module.SESSION()
    with os.fdopen(requests, "rb") as incoming, os.fdopen(answers, "wb", buffering=0) as outgoing:
        for line in incoming:
            outgoing.write(respond(operations_by_name, session, line))


def usage(_session: object) -> dict[str, int]:
    """The highest memory this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_rss_bytes": peak if sys.platform == "darwin" else peak * 1024}


def respond(operations: dict[str, Any], session: object, line: bytes) -> bytes:
    """The answer to one request; an operation that raises answers with its error."""
    message = protocol.read(line)
    number = message["id"]
    try:
        if message.get("v") != protocol.VERSION:
            raise ValueError(f"protocol {message.get('v')}, this process speaks {protocol.VERSION}")
        if message["op"] not in operations:
            raise ValueError(f"unknown operation {message['op']!r}")
        return protocol.answer(number, operations[message["op"]](session, **message["args"]))
    except Exception as error:
        traceback.print_exc()  # to the process's log
        return protocol.refusal(number, type(error).__name__, str(error))
