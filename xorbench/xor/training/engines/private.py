"""Private interfaces of PyTorch that tracing a step uses.

If a version of PyTorch lacks one, `UnsupportedCase` names it, and the engine refuses the case.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from xorbench.xor.training.engines.spec import UnsupportedCase

Operator: TypeAlias = Any
"""An overload of an ATen operator: `torch._ops.OpOverload`."""

MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


def required(owner: Any, name: str) -> Any:
    """An attribute of a module, class or object of PyTorch. Raises `UnsupportedCase`."""
    try:
        return getattr(owner, name)
    except AttributeError:
        owner_name = getattr(owner, "__name__", type(owner).__name__)
        raise UnsupportedCase(
            f"capturing a step needs {owner_name}.{name}, which PyTorch {torch.__version__} lacks"
        ) from None


def is_operator(target: object) -> bool:
    """Whether a node of a graph calls an operator rather than a Python function."""
    return isinstance(target, required(torch._ops, "OpOverload"))


def schema(operator: Operator) -> Any:
    """The schema of an operator: name, arguments, returns and mutations."""
    return required(operator, "_schema")


def bindings(name: str) -> list[Callable[..., object]]:
    """PyTorch's bindings of an operator, which have less overhead than `torch.ops`."""
    owners = (required(torch._C, "_VariableFunctions"), torch.Tensor)
    return [getattr(owner, name) for owner in owners if hasattr(owner, name)]


def traced(step: Callable[..., Any], *example: torch.Tensor) -> torch.fx.GraphModule:
    """The operators of a step as a graph."""
    from torch.fx.experimental import proxy_tensor  # slow to import

    module: torch.fx.GraphModule = required(proxy_tensor, "make_fx")(step)(*example)
    return module


def is_hooked(module: nn.Module) -> bool:
    """Whether a hook is registered on the module itself."""
    return any(required(module, name) for name in MODULE_HOOKS)


def step_hooks(optimizer: Optimizer) -> tuple[list[Any], list[Any]]:
    """The hooks before and after a step of the optimizer."""
    before, after = (list(required(optimizer, name).values()) for name in STEP_HOOKS)
    return before, after


@contextmanager
def without_step_hooks(optimizer: Optimizer) -> Iterator[None]:
    """Disable the optimizer's step hooks within the context."""
    hooks = {name: required(optimizer, name) for name in STEP_HOOKS}
    for name in hooks:
        setattr(optimizer, name, OrderedDict())
    try:
        yield
    finally:
        for name, before in hooks.items():
            setattr(optimizer, name, before)
