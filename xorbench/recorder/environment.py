"""Properties of a machine, its interpreter, PyTorch and environment, under `collect_env`'s names.

Used inside recorded programs and by the orchestrator. Needs only the standard library and Python
3.9.
"""

from __future__ import annotations

import os
import platform
from typing import Any

CPUINFO = "/proc/cpuinfo"
# Every property of a process, in the order of reports, and its label in tables.
FIELDS = {
    "torch_version": "PyTorch",
    "torch_git_version": "PyTorch commit",
    "is_debug_build": "debug build",
    "cuda_compiled_version": "CUDA of PyTorch",
    "hip_compiled_version": "HIP of PyTorch",
    "numpy_version": "NumPy",
    "python_version": "Python",
    "python_implementation": "Python implementation",
    "python_executable": "interpreter",
    "os": "system",
    "machine": "architecture",
    "libc_version": "C library",
    "threads": "threads",
    "interop_threads": "interop threads",
    "cpu": "processor",
    "cpu_capability": "instruction set",
    "mkl": "MKL",
    "mkldnn": "oneDNN",
    "deterministic": "deterministic algorithms",
    "float32_matmul_precision": "float32 matmul precision",
    "cudnn_version": "cuDNN",
    "cudnn_deterministic": "deterministic cuDNN",
    "cudnn_benchmark": "cuDNN benchmark",
    "tf32_matmul": "TF32 in matmul",
    "tf32_cudnn": "TF32 in cuDNN",
    "environment": "environment",
    "accelerator": "accelerator",
    "devices": "devices",
}
# Environment variables by which libraries choose kernels: they change the result.
KERNEL_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "MKL_CBWR",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
# All environment variables that may change result or speed; none contains a user or host name.
VARIABLES = tuple(
    sorted(
        (
            *KERNEL_VARIABLES,
            "CUDA_LAUNCH_BLOCKING",
            "CUDA_VISIBLE_DEVICES",
            "GOMP_CPU_AFFINITY",
            "KMP_AFFINITY",
            "MKL_NUM_THREADS",
            "NPY_DISABLE_CPU_FEATURES",
            "NUMBA_CPU_FEATURES",
            "NUMBA_CPU_NAME",
            "OMP_NUM_THREADS",
            "PYTHONHASHSEED",
            "PYTORCH_ALLOC_CONF",
            "PYTORCH_CUDA_ALLOC_CONF",
            "TORCHELASTIC_RESTART_COUNT",
            "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
            "TORCH_COMPILE_DISABLE",
            "WORLD_SIZE",
            "XORBENCH_RUN",
        )
    )
)


def interpreter() -> dict[str, Any]:
    """The Python version, the operating system and the architecture."""
    return {
        "python_version": platform.python_version(),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
    }


def pytorch(torch: Any) -> dict[str, Any]:
    """The version of this PyTorch, and the settings of its CPU operators."""
    return {
        "torch_version": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def environment() -> dict[str, str | None]:
    """The values of `VARIABLES`; None for a variable that is not set."""
    return {name: os.environ.get(name) for name in VARIABLES}


def processor() -> str:
    """The processor's model name, or its architecture if the model is unknown."""
    try:
        with open(CPUINFO) as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def labelled(properties: dict[str, Any], *names: str) -> dict[str, Any]:
    """These properties under their labels; an empty text for a missing one."""
    return {FIELDS[name]: properties.get(name, "") for name in names}
