"""The first line of a record: the process, the machine and the options."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import Any

import torch

from .environment import environment, interpreter, pytorch
from .fingerprint import NAME
from .masking import encodable, masked_words
from .options import Options
from .sketch import NAME as SKETCH

SCHEMA_VERSION = 3
POOLS = ("multiprocessing.pool", "concurrent.futures.process")
ABOVE = re.compile(r"(?<![\w.:/~-])/(?:[^\s/=,:;'\"]+/)*(?=[^\s/])")  # the folders above a file


def head(options: Options, generators: dict[str, str], thread: str = "") -> dict[str, Any]:
    """The line; `generators` are the digests of the generators after the import of torch.

    `thread` is the name of the recorded thread if each thread has its own record.
    """
    rank, world_size = ranks()
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "trace",
        "producer": "recorder",
        "digest": NAME,
        "sketch": SKETCH if options.sketches else None,
        "level": options.level,
        "detail": options.detail,
        "process": {
            "argv": [encodable(_relative(word, options.root)) for word in _words()],
            "name": thread or _name(),
            "pool": _in_pool(),
            "rank": rank,
            "world_size": world_size,
            "restart": os.environ.get("TORCHELASTIC_RESTART_COUNT"),
            "started_ns": time.time_ns(),
        },
        "machine": machine(),
        "environment": {n: value for n, value in environment().items() if value is not None},
        "generators": generators,
    }


def machine() -> dict[str, Any]:
    """The properties that decide the result: versions, processor features, threads, devices."""
    properties: dict[str, Any] = {**interpreter(), **pytorch(torch)}
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        properties["numpy_version"] = numpy.__version__
    if torch.cuda.is_initialized():
        properties["devices"] = [
            {"device": f"cuda:{index}", "name": torch.cuda.get_device_name(index)}
            for index in range(torch.cuda.device_count())
        ]
    return properties


def ranks() -> tuple[str | None, int | None]:
    """Rank and world size: of the process group, or else of the launcher's variables."""
    rank, size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    distributed: Any = sys.modules.get("torch.distributed")
    try:
        if distributed.is_available() and distributed.is_initialized():
            return str(distributed.get_rank()), distributed.get_world_size()
    except Exception:  # fall back to the launcher's variables
        pass
    return rank, int(size) if rank is not None and size and size.isdecimal() else None


def process_rank() -> str | None:
    """The rank of this process; None without ranks."""
    return ranks()[0]


def _words() -> list[str]:
    """The arguments of the program, without secrets."""
    return masked_words([str(word) for word in getattr(sys, "argv", [])])


def _name() -> str | None:
    """The name of a process started by `multiprocessing`; None for the main process."""
    processes: Any = sys.modules.get("multiprocessing.process")
    name = getattr(processes and processes.current_process(), "name", None)
    return None if name == "MainProcess" else name


def _in_pool() -> bool:
    """Whether this process belongs to a pool, whose processes take jobs in no fixed order."""
    processes: Any = sys.modules.get("multiprocessing.process")
    target = getattr(processes and processes.current_process(), "_target", None)
    return getattr(target, "__module__", "") in POOLS


def _relative(word: str, root: str) -> str:
    """A word of the command without `root` and without the folders of absolute paths."""
    if root:
        word = word.replace(root.rstrip(os.sep) + os.sep, "")
    bare, home = word.rstrip(os.sep), os.path.expanduser("~")
    if len(home) > 1 and bare.endswith(home):
        return bare[: -len(home)] + "~"
    return os.path.basename(bare) if os.path.isabs(word) else ABOVE.sub("", word)
