"""Say which lines of `xorbench` ran, of those that a file names. Standard library only.

The file holds line numbers by file below the package, as JSON. Each is appended once, as
`FILE:LINE`, to the file beside it that ends in `.hits`, at once: a process may be killed.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

Tracer = Callable[[FrameType, str, Any], Any]


def watch(file: str) -> None:
    """Look out from here on, in every thread that starts from here on."""
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
        mine = {line for _, _, line in code.co_lines() if line} & wanted.get(name, set())
        return local(name, mine) if mine else None

    def called(frame: FrameType, _event: str, _argument: Any) -> Tracer | None:
        code = frame.f_code
        if code not in known:
            known[code] = tracer(code)
        return known[code]

    threading.settrace(called)
    sys.settrace(called)
