"""References of operators on lists of tensors: `_foreach_`, fused optimizers, gradient scalers."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

RENAMED = {"norm": "linalg_vector_norm", "max": "amax", "zero": "zeros_like"}


def lists(name: str, args: Any, kwargs: Any) -> Any:
    """The result of a list operator, tensor by tensor; arguments are written in place."""
    if name.startswith("_foreach_"):
        return _each(name, args, kwargs)
    if name.startswith("_amp_foreach"):
        return _unscale(*args)
    o = SimpleNamespace(**{"grad_scale": None, "found_inf": None, **kwargs})
    if o.found_inf is not None and bool(o.found_inf):
        return None
    o.decoupled = "adamw" in name
    step, keys = STEPS[name.rstrip("_")]
    for i in range(len(args[0])):
        own = {key: values[i] for key, values in zip(keys, args) if len(values)}  # noqa: B905
        if o.grad_scale is not None:
            own["g"].copy_(own["g"] / o.grad_scale)
        own["d"] = -own["g"] if o.maximize else own["g"]
        step(SimpleNamespace(**own), o)
    return None


def _each(name: str, args: Any, kwargs: Any) -> Any:
    plain = name[len("_foreach_") :].rstrip("_")
    operator = getattr(torch.ops.aten, RENAMED.get(plain, plain))
    count, args = len(args[0]), list(args)
    if plain == "copy":
        args, kwargs = args[:2], {}
    scalars = args.pop() if plain in ("addcmul", "addcdiv") and len(args) > 3 else None
    results = []
    for i in range(count):
        extra = {"value": _nth(scalars, i, count)} if scalars is not None else {}
        results.append(operator(*(_nth(value, i, count) for value in args), **kwargs, **extra))
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


def _sgd(t: Any, o: Any) -> None:
    """A step of tensors t (parameter p, gradient d, buffer m) with options o."""
    step = t.d + o.weight_decay * t.p if o.weight_decay else t.d
    if o.momentum:
        old = step.clone() if o.is_first_step else o.momentum * t.m + (1 - o.dampening) * step
        t.m.copy_(old)
        step = step + o.momentum * t.m if o.nesterov else t.m
    t.p.copy_(t.p - o.lr * step)


def _adam(t: Any, o: Any) -> None:
    """A step of tensors t (also the averages m, v and their largest) with options o."""
    if o.weight_decay and o.decoupled:
        t.p.copy_(t.p - o.lr * o.weight_decay * t.p)
    d = t.d + o.weight_decay * t.p if o.weight_decay and not o.decoupled else t.d
    t.m.copy_(t.m + (1 - o.beta1) * (d - t.m))
    t.v.copy_(o.beta2 * t.v + (1 - o.beta2) * d * d)
    if o.amsgrad:
        t.largest.copy_(torch.maximum(t.largest, t.v))
    count = float(t.step)
    root = torch.sqrt(t.largest if o.amsgrad else t.v)
    scale = root / math.sqrt(1 - o.beta2**count) + o.eps
    t.p.copy_(t.p - o.lr / (1 - o.beta1**count) * t.m / scale)


def _adagrad(t: Any, o: Any) -> None:
    d = t.d + o.weight_decay * t.p if o.weight_decay else t.d
    t.sum.copy_(t.sum + d * d)
    lr = o.lr / (1 + (float(t.step) - 1) * o.lr_decay)
    t.p.copy_(t.p - lr * d / (torch.sqrt(t.sum) + o.eps))


ADAM = _adam, ("p", "g", "m", "v", "largest", "step")
STEPS = {
    "_fused_sgd": (_sgd, ("p", "g", "m")), "_fused_adam": ADAM, "_fused_adamw": ADAM,
    "_fused_adagrad": (_adagrad, ("p", "g", "sum", "step")),
}  # fmt: skip
