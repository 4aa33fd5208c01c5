"""`env`: the environment of a training process on this machine."""

import json
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from xorbench import __version__
from xorbench.errors import BadOption, why
from xorbench.machine import host
from xorbench.runtime.process import START_S, environment, interpreter
from xorbench.runtime.slots import make_slots
from xorbench.runtime.staging import staged
from xorbench.runtime.start import running, starter
from xorbench.xor.matrix.case import ProcessConfig

DESCRIBE: Final = (
    "import json; from xorbench.process.machine import describe; print(json.dumps(describe()))"
)


def env(*, anonymous: bool, python: str | None = None) -> dict[str, Any]:
    """The host, and the interpreter and PyTorch of a process with the default settings.

    `python` is a different interpreter, as in `--pythons`. `process` is None if this environment
    has no PyTorch and `python` is not given.
    """
    machine = None
    if python is not None:
        machine = _described_by(python)
    elif find_spec("torch") is not None:
        machine = _own_machine()
    return {"xorbench": __version__, "host": host.describe(anonymous=anonymous), "process": machine}


def _own_machine() -> dict[str, Any]:
    """Describe a process of this interpreter with the default settings."""
    with tempfile.TemporaryDirectory() as folder:
        slots = make_slots([ProcessConfig()], 1)
        with running(slots, starter(lambda name: Path(folder) / name, 120.0)):
            return slots[0].machine


def _described_by(python: str) -> dict[str, Any]:
    """The properties of another interpreter, which needs PyTorch only; raises `BadOption`."""
    config, packages = ProcessConfig(python=python), staged()
    command = [interpreter(config), "-c", DESCRIBE]
    variables = environment(config, packages)
    try:
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, check=True, timeout=START_S
        )
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        raise BadOption(f"--python: {command[0]}: {reason}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadOption(f"--python: {command[0]}: {why(error)}") from None
    described: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return described
