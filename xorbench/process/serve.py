"""Answers requests until the pipe closes, and ends the process if the orchestrator dies."""

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

    A blocking reader costs nothing and notices even a `kill -9`.
    """

    def wait() -> NoReturn:
        os.read(lifeline, 1)
        os.killpg(os.getpgid(0), signal.SIGKILL)
        raise AssertionError("unreachable")

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def without_collections() -> Iterator[None]:
    """Import with the garbage collector disabled, then `gc.freeze()`.

    PyTorch and its compiler create a million permanent objects. Collections over them would take a
    seventh of the import, and time in timed epochs.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def serve(requests: int, answers: int, operations: str) -> None:
    """Read requests from one descriptor and write answers to the other, in order.

    `operations` is a module of this package with `OPERATIONS` and their shared `SESSION`. Each
    module imports only what it needs. Every process also answers `usage`.
    """
    with without_collections():
        module = importlib.import_module(f"xorbench.process.{operations}")
    operations_by_name = {"usage": usage, **module.OPERATIONS}
    session = module.SESSION()
    with os.fdopen(requests, "rb") as incoming, os.fdopen(answers, "wb", buffering=0) as outgoing:
        for line in incoming:
            outgoing.write(respond(operations_by_name, session, line))


def usage(_session: object) -> dict[str, int]:
    """The peak memory of this process, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_rss_bytes": peak if sys.platform == "darwin" else peak * 1024}


def respond(operations: dict[str, Any], session: object, line: bytes) -> bytes:
    """The answer to one request, or the error of the operation."""
    message = protocol.read(line)
    number = message["id"]
    try:
        if message.get("v") != protocol.VERSION:
            raise ValueError(f"protocol {message.get('v')}, this process has {protocol.VERSION}")
        if message["op"] not in operations:
            raise ValueError(f"unknown operation {message['op']!r}")
        return protocol.answer(number, operations[message["op"]](session, **message["args"]))
    except Exception as error:
        traceback.print_exc()  # to the process's log
        return protocol.refusal(number, type(error).__name__, str(error))
