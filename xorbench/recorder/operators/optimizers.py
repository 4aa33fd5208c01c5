"""References of operators on lists of tensors: `_foreach_`, fused optimizers, gradient scalers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

RENAMED = {"norm": "linalg_vector_norm", "copy": "copy", "max": "amax", "zero": "zeros_like"}


def lists(name: str, args: Any, kwargs: Any) -> Any:
    """The result of a list operator, tensor by tensor; arguments are written in place."""
    if name.startswith("_fused_sgd"):
        return _sgd(*args[:3], **kwargs)
    if name.startswith("_fused_adam"):
        return _adam(name, *args[:6], **kwargs)
    if name.startswith("_amp_foreach"):
        return _unscale(*args)
    if name.startswith("_foreach_"):
        return _each(name, args, kwargs)
    raise NotImplementedError(name)


def _each(name: str, args: Any, kwargs: Any) -> Any:
    plain = name[len("_foreach_") :].rstrip("_")
    operator = getattr(torch.ops.aten, RENAMED.get(plain, plain))
    count, args = len(args[0]), list(args)
    if plain == "copy":
        args, kwargs = args[:2], {}
    scalars = args.pop() if plain in ("addcmul", "addcdiv") and len(args) > 3 else None
    results = []
    for i in range(count):
        own = [_nth(value, i, count) for value in args]
        extra = {"value": _nth(scalars, i, count)} if scalars is not None else {}
        results.append(operator(*own, **{**kwargs, **extra}))
    if not name.endswith("_"):
        return results
    for target, result in zip(args[0], results):  # noqa: B905 - Python 3.9
        target.copy_(result)
    return None


def _nth(value: Any, i: int, count: int) -> Any:
    """The part of an argument that belongs to the tensor i; `value` of addcmul is a number."""
    if isinstance(value, (list, tuple)):
        return value[i] if len(value) == count else value
    return value[i].item() if isinstance(value, Tensor) and value.shape == (count,) else value


def _unscale(grads: Any, found: Tensor, inverse: Tensor) -> None:
    finite = all(bool(torch.isfinite(grad).all()) for grad in grads)
    for grad in grads:
        grad.copy_(grad * inverse)
    found.copy_(torch.full_like(found, float(bool(found) or not finite)))


def _sgd(
    parameters: Any, grads: Any, buffers: Any, *, weight_decay: float, momentum: float, lr: Any,
    dampening: float, nesterov: bool, maximize: bool, is_first_step: bool, grad_scale: Any = None,
    found_inf: Any = None,
) -> None:  # fmt: skip
    if found_inf is not None and bool(found_inf):
        return
    for p, g, b in zip(parameters, grads, buffers or [None] * len(parameters)):  # noqa: B905
        if grad_scale is not None:
            g.copy_(g / grad_scale)
        step = -g if maximize else g
        step = step + weight_decay * p if weight_decay else step
        if momentum:
            b.copy_(step.clone() if is_first_step else momentum * b + (1 - dampening) * step)
            step = step + momentum * b if nesterov else b
        p.copy_(p - lr * step)


def _adam(
    name: str, parameters: Any, grads: Any, averages: Any, squares: Any, largest: Any, steps: Any,
    *, lr: Any, beta1: float, beta2: float, weight_decay: float, eps: float, amsgrad: bool,
    maximize: bool, grad_scale: Any = None, found_inf: Any = None,
) -> None:  # fmt: skip
    if found_inf is not None and bool(found_inf):
        return
    rows = zip(parameters, grads, averages, squares, steps)  # noqa: B905
    for i, (p, g, m, v, step) in enumerate(rows):
        if grad_scale is not None:
            g.copy_(g / grad_scale)
        d, t = -g if maximize else g, float(step)
        if weight_decay and "adamw" in name:
            p.copy_(p - lr * weight_decay * p)
        elif weight_decay:
            d = d + weight_decay * p
        m.copy_(m + (1 - beta1) * (d - m))
        v.copy_(beta2 * v + (1 - beta2) * d * d)
        second = v
        if amsgrad:
            largest[i].copy_(torch.maximum(largest[i], v))
            second = largest[i]
        scale = torch.sqrt(second) / math.sqrt(1 - beta2**t) + eps
        p.copy_(p - lr / (1 - beta1**t) * m / scale)
