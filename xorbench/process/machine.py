"""What this interpreter and its PyTorch are, in the words of `torch.utils.collect_env`."""

import os
import platform
import sys
from typing import Any, Final

import numpy as np
import torch

from xorbench.plan import processor

# Variables that move bits or speed: recorded, absent ones as null.
ENVIRONMENT: Final = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "KMP_AFFINITY",
    "MKL_CBWR",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
)


def describe() -> dict[str, Any]:
    """Versions, threads, processor, flags, accelerators and environment of this process."""
    kind = _accelerator()
    return {
        "torch_version": torch.__version__,
        "torch_git_version": torch.version.git_version,
        "is_debug_build": bool(torch.version.debug),
        "cuda_compiled_version": torch.version.cuda,
        "hip_compiled_version": torch.version.hip,
        "numpy_version": np.__version__,
        "python_version": platform.python_version(),
        "python_implementation": platform.python_implementation(),
        "python_executable": sys.executable,
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "libc_version": "-".join(platform.libc_ver()),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "cpu": processor.model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkl": torch.backends.mkl.is_available(),
        "mkldnn": torch.backends.mkldnn.is_available(),
        **_flags(),
        "environment": {name: os.environ.get(name) for name in ENVIRONMENT},
        "accelerator": kind,
        "devices": [described_device(f"{kind}:{index}") for index in range(_device_count())],
    }


def _flags() -> dict[str, Any]:
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_version": torch.backends.cudnn.version(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
    }


def _accelerator() -> str | None:
    """The type of the accelerator that is really there, such as `cuda`."""
    if not torch.accelerator.is_available():
        return None
    device = torch.accelerator.current_accelerator()
    return device.type if device else None


def _device_count() -> int:
    return torch.accelerator.device_count() if torch.accelerator.is_available() else 0


def described_device(device: str) -> dict[str, Any]:
    """An accelerator by its name with an index, and what its driver says that it is."""
    place = torch.device(device)
    index = place.index or 0
    found: dict[str, Any] = {"device": f"{place.type}:{index}"}
    properties = getattr(torch.get_device_module(place), "get_device_properties", None)
    if properties is None:
        return found
    values = properties(index)
    for name in ("name", "total_memory", "major", "minor", "multi_processor_count", "uuid"):
        if hasattr(values, name):
            value = getattr(values, name)
            found[name] = value if isinstance(value, int) else str(value)
    return found


def _lacks_cuda(kind: str) -> bool:
    return kind == "cuda" and torch.version.cuda is None and torch.version.hip is None


def unavailable_reason(device: str) -> str | None:
    """Why this machine cannot train on the device, or None where it can."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return None
    present = _accelerator()
    if present is None:
        sees = "is built without CUDA" if _lacks_cuda(kind) else "sees no accelerator"
        return f"no {kind} device: this PyTorch ({torch.__version__}) {sees}"
    if kind != present:
        return f"no {kind} device: the accelerator here is {present}"
    if index and int(index) >= _device_count():
        return f"no {device}: this machine has {_device_count()} {kind} device(s)"
    try:
        torch.zeros(1, device=device).add_(1).cpu()
    except (RuntimeError, AssertionError) as error:
        return f"{device} does not work: {str(error).splitlines()[0]}"
    return None
