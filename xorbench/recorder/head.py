"""The first line of a record: of what, with what, under which options."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import Any

import torch

from .digest import NAME
from .options import Options

SCHEMA_VERSION = 3
# What may move bits or speed, and names nobody.
ENVIRONMENT = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "MKL_CBWR",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "PYTHONHASHSEED",
    "TORCHELASTIC_RESTART_COUNT",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_COMPILE_DISABLE",
    "WORLD_SIZE",
    "XORBENCH_RUN",
)


def head(options: Options, generators: dict[str, str]) -> dict[str, Any]:
    """The line; `generators` are the digests of their states when torch had been imported."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "trace",
        "producer": "recorder",
        "digest": NAME,
        "level": options.level,
        "detail": options.detail,
        "process": {
            "argv": [_relative(word, options.root) for word in getattr(sys, "argv", [])],
            "rank": os.environ.get("RANK"),
            "restart": os.environ.get("TORCHELASTIC_RESTART_COUNT"),
            "started_ns": time.time_ns(),
        },
        "machine": machine(),
        "environment": {n: os.environ[n] for n in ENVIRONMENT if n in os.environ},
        "generators": generators,
    }


def machine() -> dict[str, Any]:
    """What decides bits: versions, processor features, threads, devices."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        found["numpy"] = numpy.__version__
    if torch.cuda.is_initialized():
        found["devices"] = [
            torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
        ]
    return found


def _relative(word: str, root: str) -> str:
    """A word of the command without the folder that it was started in, or any above a file."""
    if root and word.startswith(root.rstrip(os.sep) + os.sep):
        return word[len(root.rstrip(os.sep)) + 1 :]
    return os.path.basename(word) if os.path.isabs(word) else word
