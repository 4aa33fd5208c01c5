"""Processes that see the pretend accelerator of `tests/pretend`, and a reason where none can."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import Completed, run_in

TESTS = Path(__file__).parent
PRETEND = TESTS / "pretend"
TIMEOUT_S = 240.0  # of one process, on a machine that does much else
NEEDED = (
    "from torch.utils.backend_registration import _setup_privateuseone_for_python_backend;"
    "import torch;"
    "torch._C._to_dlpack, torch.library.fallthrough_kernel;"
    "torch.ones(2, device='pretend:1').add_(1).cpu()"
)


def environment(**variables: str) -> dict[str, str]:
    """The variables of a process that sees the device, and imports xorbench from here."""
    paths = [str(PRETEND), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "TORCH_DEVICE_BACKEND_AUTOLOAD": "1"}
    return {**os.environ, **own, **{f"PRETEND_{name.upper()}": v for name, v in variables.items()}}


@cache
def lacking() -> str:
    """Why this PyTorch cannot have the pretend accelerator; empty where it can."""
    done = subprocess.run(
        [sys.executable, "-c", NEEDED],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    return done.stderr.strip().split("\n")[-1] if done.returncode else ""


def require() -> None:
    """Skip, with the reason, where this PyTorch cannot have it."""
    if lacking():
        pytest.skip(f"this PyTorch lacks what the pretend accelerator needs: {lacking()}")


def xorbench(folder: Path, *arguments: str, **variables: str) -> Completed:
    """The real program in a folder, its processes on the pretend accelerator."""
    require()
    return run_in(folder, *arguments, env=environment(**variables), timeout=TIMEOUT_S)


def program(name: str, **variables: str) -> dict[str, Any]:
    """What a function of `accelerator_programs` finds in a process of its own."""
    require()
    done = subprocess.run(
        [sys.executable, "-W", "error", str(TESTS / "accelerator_programs.py"), name],
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
