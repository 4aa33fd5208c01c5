"""The compile engine: `torch.compile` of the step, with the batches of the tensor engine."""

import atexit
import importlib.util
import os
import shutil
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from xorbench.xor.training.engines import operator_trace
from xorbench.xor.training.engines.spec import (
    Batches,
    EpochFunction,
    TrainingSpec,
    epochs_of,
    loss_function,
)

TRITON_ONLY: Final = ("cuda", "xpu")
"""Device types for which Inductor generates only Triton code."""


def unavailable_reason(device: str) -> str | None:
    """The reason why `torch.compile` is unavailable for the device, or None."""
    kind = torch.device(device).type
    if kind != "cpu":
        return _unavailable_on(kind)
    names = [os.environ.get("CXX"), "g++", "clang++", "c++"]
    if not any(name and shutil.which(name) for name in names):
        return "torch.compile needs a C++ compiler, which is not installed"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "torch.compile needs Python's header files, which are not installed"
    return None


def _unavailable_on(kind: str) -> str | None:
    """The reason why Inductor does not support this type of device, or None."""
    from torch._inductor.codegen import common  # slow to import

    common.init_backend_registration()
    if common.get_scheduling_for_device(kind) is None:
        return f"torch.compile has no code generator for {kind} devices"
    if kind in TRITON_ONLY and not importlib.util.find_spec("triton"):
        return "torch.compile needs Triton for this device, which is not installed"
    return None


def compiled(spec: TrainingSpec) -> EpochFunction:
    """Compile loss, gradients and the optimizer's step for each shape before the first epoch.

    An optimizer with step hooks is not compiled, since compiling would remove the hooks.
    """
    operator_trace.require_unhooked(spec, "compile")
    _private_cache()
    torch.use_deterministic_algorithms(
        torch.are_deterministic_algorithms_enabled()
    )  # informs Inductor
    batches = Batches(spec, "compile")
    optimizer = spec.optimizer
    loss_of = torch.compile(loss_function(spec), dynamic=False)
    hooked = optimizer._optimizer_step_post_hooks or optimizer._optimizer_step_pre_hooks
    update: Any = optimizer.step if hooked else torch.compile(optimizer.step, dynamic=False)

    def step(points: Tensor, labels: Tensor) -> Tensor:
        loss = loss_of(points, labels)
        optimizer.zero_grad()
        loss.backward()
        update()
        return loss.detach()

    spec.model.train()
    with operator_trace.restored(spec):
        for size in sorted({piece.stop - piece.start for piece in batches.slices}):
            step(*batches.example(size))

    return epochs_of(spec, batches, step)


@cache
def _private_cache() -> None:
    """Use an empty cache, since the cache of an earlier process would hide the compile time."""
    folder = tempfile.mkdtemp(prefix="xorbench-compile-")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # only two kernels are compiled
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
