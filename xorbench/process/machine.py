"""The properties of this interpreter, its PyTorch and its accelerators."""

from __future__ import annotations

import platform
import sys
from typing import Any

import torch

from xorbench.recorder.environment import FIELDS, environment, interpreter, processor, pytorch


def describe() -> dict[str, Any]:
    """The properties in `FIELDS`: of interpreter, PyTorch, environment and devices."""
    kind = _accelerator()
    properties = {
        **interpreter(),
        **pytorch(torch),
        "torch_git_version": torch.version.git_version,
        "is_debug_build": bool(torch.version.debug),
        "cuda_compiled_version": torch.version.cuda,
        "hip_compiled_version": torch.version.hip,
        "numpy_version": _numpy_version(),
        "python_implementation": platform.python_implementation(),
        "python_executable": sys.executable,
        "libc_version": "-".join(platform.libc_ver()),
        "interop_threads": torch.get_num_interop_threads(),
        "cpu": processor(),
        "mkl": torch.backends.mkl.is_available(),
        "mkldnn": torch.backends.mkldnn.is_available(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_version": torch.backends.cudnn.version(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
        "environment": environment(),
        "accelerator": kind,
        "devices": [described_device(f"{kind}:{index}") for index in range(_device_count())],
    }
    return {name: properties[name] for name in FIELDS}


def _numpy_version() -> str | None:
    """The version of NumPy; None in an environment without it, which `env --python` describes."""
    try:
        import numpy as np
    except ImportError:
        return None
    return np.__version__


def _accelerator() -> str | None:
    """The type of the available accelerator, such as `cuda`; None without one."""
    if not torch.accelerator.is_available():
        return None
    device = torch.accelerator.current_accelerator()
    return device.type if device else None


def _device_count() -> int:
    return torch.accelerator.device_count() if torch.accelerator.is_available() else 0


def described_device(device: str) -> dict[str, Any]:
    """An accelerator: its name with an index, and the properties from its driver."""
    place = torch.device(device)
    index = place.index or 0
    description: dict[str, Any] = {"device": f"{place.type}:{index}"}
    get_properties = getattr(torch.get_device_module(place), "get_device_properties", None)
    if get_properties is None:
        return description
    properties = get_properties(index)
    for name in ("name", "total_memory", "major", "minor", "multi_processor_count", "uuid"):
        if hasattr(properties, name):
            value = getattr(properties, name)
            description[name] = value if isinstance(value, int) else str(value)
    return description


def unavailable_reason(device: str) -> str | None:
    """Why this machine cannot train on the device; None if it can."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return None
    present = _accelerator()
    if present is None:
        lacks_cuda = kind == "cuda" and torch.version.cuda is None and torch.version.hip is None
        reason = "is built without CUDA" if lacks_cuda else "sees no accelerator"
        return f"no {kind} device: this PyTorch ({torch.__version__}) {reason}"
    if kind != present:
        return f"no {kind} device: the accelerator here is {present}"
    if index and int(index) >= _device_count():
        return f"no {device}: this machine has {_device_count()} {kind} device(s)"
    try:
        torch.zeros(1, device=device).add_(1).cpu()
    except (RuntimeError, AssertionError) as error:
        return f"{device} does not work: {str(error).splitlines()[0]}"
    return None
