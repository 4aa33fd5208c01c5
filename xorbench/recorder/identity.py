"""The identity of tensors: names of parameters, and shared memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def bare(name: str) -> str:
    """A parameter's name without the prefixes of wrappers."""
    return ".".join(word for word in name.split(".") if word not in WRAPPERS)


def class_name(module: nn.Module) -> str:
    """The class of a module, without its wrappers."""
    while type(module).__name__ in ("OptimizedModule", "DistributedDataParallel"):
        inner = getattr(module, "_orig_mod", None)
        module = module.module if inner is None else inner  # type: ignore[assignment]
    return type(module).__name__


def parameters_of(groups: list[dict[str, Any]], index: int) -> Iterator[tuple[str, Tensor]]:
    """Each parameter of an optimizer's groups with its identity: optimizer, group and position."""
    for group_index, group in enumerate(groups):
        for position, parameter in enumerate(group["params"]):
            yield f"o{index}.g{group_index}.p{position}", parameter


def storage_of(tensor: Tensor) -> StorageWeakRef | None:
    """A weak reference to the memory of a tensor; None for a tensor without its own memory.

    While the reference is alive, no other memory gets the same `cdata`.
    """
    try:
        return StorageWeakRef(tensor.untyped_storage())
    except (NotImplementedError, RuntimeError):
        return None


def is_silent(first: Tensor | None) -> bool:
    """Whether the program is being traced, captured or recomputed; `first` is an input of it."""
    return (
        torch._C._current_graph_task_id() != -1
        or torch._C._is_tracing()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())
        or type(first).__name__ in ("FakeTensor", "FunctionalTensor")
    )
