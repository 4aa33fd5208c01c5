"""`env`: the environment of a training process on this machine."""

import tempfile
from pathlib import Path
from typing import Any

from xorbench import __version__
from xorbench.machine import host
from xorbench.runtime.slots import make_slots
from xorbench.runtime.start import running, starter
from xorbench.xor.matrix.case import ProcessConfig


def env(*, anonymous: bool) -> dict[str, Any]:
    """The host, and the interpreter and PyTorch of a process with the default settings."""
    with tempfile.TemporaryDirectory() as folder:
        slots = make_slots([ProcessConfig()], 1)
        with running(slots, starter(lambda name: Path(folder) / name, 120.0)):
            machine = slots[0].machine
    return {"xorbench": __version__, "host": host.describe(anonymous=anonymous), "process": machine}
