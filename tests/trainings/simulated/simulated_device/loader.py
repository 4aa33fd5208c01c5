"""Registers the device with PyTorch: called by `import torch` through an entry point."""

import os
from typing import Any, Final

import torch
from torch.library import Library

from simulated_device import device, graphs, lines, operators, shortcut

ATEN: Final = torch.ops.aten
VIEWS: Final = (
    "as_strided", "view", "_reshape_alias", "unfold", "view.dtype", "set_.source_Storage",
    "set_.source_Storage_storage_offset", "set_.source_Tensor",
)  # fmt: skip
KERNELS: Final = {
    "empty.memory_format": operators.empty,
    "empty_strided": operators.empty_strided,
    "resize_": operators.resize_,
    "copy_": operators.copy_,
    "_copy_from": operators.copy_from,
    "_local_scalar_dense": operators.item,
    "convolution_overrideable": operators.convolution,
    "convolution_backward_overrideable": operators.convolution_backward,
}
CASTS: Final = {
    **dict.fromkeys(("linear", "matmul", "mm", "addmm")),
    "binary_cross_entropy_with_logits": torch.float32,
}
PATCHED: Final = (
    "synchronize", "memory_allocated", "max_memory_allocated", "reset_peak_memory_stats",
)  # fmt: skip
_libraries: list[Library] = []  # an operator is removed with its library


def load() -> None:
    """Register device type, operators and `torch.simulated`, once."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    if hasattr(torch, device.NAME):
        return
    if os.environ.get("SIMULATED_TRACE"):
        lines.trace_lines(os.environ["SIMULATED_TRACE"])
    if os.environ.get("SIMULATED_SHORT_GOLDEN"):
        shortcut.install()
    module = device.DeviceModule(f"torch.{device.NAME}")
    if os.environ.get("SIMULATED_GRAPHS"):
        graphs.add_to(module)
    _setup_privateuseone_for_python_backend(device.NAME, module)
    _register_operators()
    _patch_accelerator(module)
    torch.serialization.register_package(1, _tag, _loaded)


def _register_operators() -> None:
    everything, aten = Library("_", "IMPL"), Library("aten", "IMPL")
    _libraries.extend((everything, aten))
    everything.fallback(operators.fallback, "PrivateUse1")
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in VIEWS:
        packet, _, overload = name.partition(".")
        op = getattr(getattr(ATEN, packet), overload or "default")
        aten.impl(name, operators.view_of(op), "PrivateUse1")
    for name, kernel in KERNELS.items():
        aten.impl(name, kernel, "PrivateUse1")
    aten.impl("is_pinned", operators.is_pinned, "CPU")
    aten.impl("_pin_memory", operators.pin, "CPU")
    for name, dtype in CASTS.items():
        cast = operators.autocast(getattr(ATEN, name).default, dtype)
        aten.impl(name, cast, "AutocastPrivateUse1")


def _patch_accelerator(module: Any) -> None:
    """Replace functions of `torch.accelerator` that a Python device guard cannot support."""
    torch._C._set_multithreading_enabled(False)  # autograd has a thread for device 0 only
    for name in PATCHED:
        setattr(torch.accelerator, name, getattr(module, name))
    for name, function in {
        "set_device_index": module.set_device,
        "current_device_index": module.current_device,
    }.items():
        setattr(torch.accelerator, name, function)


def _tag(storage: Any) -> str | None:
    return str(storage.device) if storage.device.type == device.NAME else None


def _loaded(storage: Any, location: str) -> Any:
    if not location.startswith(device.NAME):
        return None
    untyped = getattr(storage, "_untyped_storage", storage)
    cpu = torch.empty(0, dtype=torch.uint8).set_(untyped)
    return device.wrap(cpu.clone(), device.place(location)).untyped_storage()
