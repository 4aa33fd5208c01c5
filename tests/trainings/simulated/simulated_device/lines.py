"""Traces which lines of `xorbench` run, of those listed in a file. Standard library only.

The file has line numbers by file in the package, as JSON. Each executed line is appended once, as
`FILE:LINE`, to a file next to it that ends in `.hits`, immediately, since a process may be killed.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

Tracer = Callable[[FrameType, str, Any], Any]


def trace_lines(file: str) -> None:
    """Trace the lines from now on, in this thread and in new threads."""
    with open(file) as content:
        wanted = {name: set(lines) for name, lines in json.load(content).items()}
    hits = os.open(os.path.splitext(file)[0] + ".hits", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    known: dict[CodeType, Tracer | None] = {}

    def local(name: str, lines: set[int]) -> Tracer:
        def trace(frame: FrameType, event: str, _argument: Any) -> Tracer:
            if event == "line" and frame.f_lineno in lines:
                lines.discard(frame.f_lineno)
                wanted[name].discard(frame.f_lineno)
                os.write(hits, f"{name}:{frame.f_lineno}\n".encode())
            return trace

        return trace

    def tracer(code: CodeType) -> Tracer | None:
        name = code.co_filename.replace(os.sep, "/").rpartition("/xorbench/")[2]
        own_lines = {line for _, _, line in code.co_lines() if line} & wanted.get(name, set())
        return local(name, own_lines) if own_lines else None

    def called(frame: FrameType, _event: str, _argument: Any) -> Tracer | None:
        code = frame.f_code
        if code not in known:
            known[code] = tracer(code)
        return known[code]

    threading.settrace(called)
    sys.settrace(called)
