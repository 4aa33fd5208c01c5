"""Convolution, pooling, interpolation of indices: formulas in float64 by windows and products."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .noise import product

EXCLUDED = torch._C._dispatch_tls_local_exclude_set()  # a dispatch handler also excludes autograd


def per_axis(value: Any, count: int) -> list[Any]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * count if len(values) == 1 else values


def _window(sizes: Any, offset: Any, stride: Any, dilation: Any) -> tuple[Any, ...]:
    """The index of the elements that one kernel position touches."""
    rows = zip(sizes, offset, stride, dilation)  # noqa: B905 - Python 3.9
    axes = (slice(k * d, k * d + (n - 1) * s + 1, s) for n, k, s, d in rows)
    return (slice(None), slice(None), *axes)


def _shape(axes: int, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    return [*(per_axis(value, axes) for value in (stride, padding, dilation)), groups]


def _correlate(x: Tensor, weight: Tensor, shape: Any) -> Tensor:
    """A convolution, as a sum of one product of matrices per kernel position."""
    stride, padding, dilation, groups = shape
    x = torch.nn.functional.pad(x, [p for q in reversed(padding) for p in (q, q)])
    rows = zip(x.shape[2:], weight.shape[2:], stride, dilation)  # noqa: B905
    sizes = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in rows]
    kernel = weight.reshape(groups, -1, *weight.shape[1:])
    out = x.new_zeros(len(x), groups, kernel.shape[1], math.prod(sizes))
    positions: Any = itertools.product(*map(range, weight.shape[2:]))
    for k in positions:
        part = x[_window(sizes, k, stride, dilation)]
        out = out + kernel[(..., *k)] @ part.reshape(len(x), groups, weight.shape[1], -1)
    return out.reshape(len(x), len(weight), *sizes)


def _adjoint(y: Tensor, weight: Tensor, sizes: Any, shape: Any) -> Any:
    """The gradient of a convolution for its input, which is also the transposed convolution."""
    inner = tuple(slice(n) for n in y.shape)
    x = y.new_zeros(len(y), weight.shape[1] * shape[-1], *sizes)
    return gradient(lambda x: _correlate(x, weight, shape)[inner], [x], [y])[0]


def convolution(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool = False, output_padding: Any = 0, groups: int = 1, *_: Any,
) -> Tensor:  # fmt: skip
    axes = weight.dim() - 2
    if single := x.dim() == axes + 1:
        x = x.unsqueeze(0)
    shape = _shape(axes, stride, padding, dilation, groups)
    if transposed:
        rows = zip(x.shape[2:], weight.shape[2:], *shape[:3], per_axis(output_padding, axes))  # noqa: B905
        sizes = [(n - 1) * s - 2 * p + d * (k - 1) + 1 + o for n, k, s, p, d, o in rows]
        terms = weight[:, 0].numel() // groups
        out = product(lambda x, w: _adjoint(x, w, sizes, shape), terms, x, weight)
    else:
        out = product(lambda x, w: _correlate(x, w, shape), weight[0].numel(), x, weight)
    if bias is not None:
        out = out + bias.reshape(1, -1, *[1] * axes)
    return out[0] if single else out


def convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, _bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, _output_padding: Any, groups: int, mask: Any,
) -> tuple[Any, Any, Any]:  # fmt: skip
    axes = weight.dim() - 2
    shape = _shape(axes, stride, padding, dilation, groups)

    def input_gradient(g: Tensor, w: Tensor) -> Any:
        if transposed:
            return _correlate(g, w, shape)[tuple(slice(n) for n in x.shape)]
        return _adjoint(g, w, x.shape[2:], shape)

    def weight_gradient(small: Tensor, large: Tensor) -> Any:
        inner = tuple(slice(n) for n in small.shape)
        forward = lambda w: _correlate(large, w, shape)[inner]  # noqa: E731
        return gradient(forward, [torch.zeros_like(weight)], [small])[0]

    terms = weight[0].numel() if transposed else weight[:, 0].numel() // groups
    gx = product(input_gradient, terms, grad, weight) if mask[0] else None
    pair = (x, grad) if transposed else (grad, x)  # the output and the input of the convolution
    terms = pair[0].numel() // pair[0].shape[1]
    gw = product(weight_gradient, terms, *pair) if mask[1] else None
    return gx, gw, grad.sum([0, *range(2, 2 + axes)]) if mask[2] else None


def gradient(formula: Callable[..., Any], inputs: Any, grads: Any) -> Any:
    """The gradients of a formula, by autograd of its float64 steps."""
    included = torch._C._dispatch_tls_local_include_set()
    with torch._C._ForceDispatchKeyGuard(included, EXCLUDED), torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in inputs]
        return torch.autograd.grad(formula(*leaves), leaves, grads, allow_unused=True)


# Pooling


def _windows(x: Tensor, settings: Any, ceil: bool) -> Any:
    """The indices of the elements of each window in a plane, and whether they are inside it.

    Both have one row per output element. Also returns the sizes of the output.
    """
    axes, sizes = len(settings[0]), []
    plane = x.shape[-axes:]
    flat = torch.zeros([1] * 2 * axes, dtype=torch.long)
    inside = torch.ones([1] * 2 * axes, dtype=torch.bool)
    for i, (n, k, s, p, d) in enumerate(zip(plane, *settings)):  # noqa: B905
        count = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil else 0)) // s + 1
        if ceil and (count - 1) * s >= n + p:
            count -= 1
        sizes.append(count)
        shape = [1] * 2 * axes
        shape[i], shape[axes + i] = count, k
        place = torch.arange(count).unsqueeze(1) * s - p + torch.arange(k) * d
        place = place.reshape(shape)
        flat = flat * n + place.clamp(0, n - 1)
        inside = inside & (place >= 0) & (place < n)
    rows = math.prod(sizes)
    return flat.reshape(rows, -1), inside.reshape(rows, -1), sizes


def _window_values(x: Tensor, axes: int, flat: Tensor, inside: Tensor, outside: float) -> Tensor:
    values = x.reshape(*x.shape[:-axes], -1)[..., flat]
    return torch.where(inside, values, torch.full_like(values, outside))


def _settings(axes: int, kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Any:
    kernel = per_axis(kernel, axes)
    stride = per_axis(stride, axes) if stride else kernel
    return [kernel, stride, per_axis(padding, axes), per_axis(dilation, axes)]


def max_pool(axes: int) -> Callable[..., Any]:
    def formula(
        x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
        ceil: bool = False,
    ) -> tuple[Tensor, None]:  # fmt: skip
        settings = _settings(axes, kernel, stride, padding, dilation)
        flat, inside, sizes = _windows(x, settings, ceil)
        values = _window_values(x, axes, flat, inside, -math.inf)
        return values.amax(-1).reshape(*x.shape[:-axes], *sizes), None

    return formula


def average_pool(axes: int) -> Callable[..., Tensor]:
    def formula(
        x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, ceil: bool = False,
        count_padding: bool = True, divisor: Any = None,
    ) -> Tensor:  # fmt: skip
        settings = _settings(axes, kernel, stride, padding)
        flat, inside, sizes = _windows(x, settings, ceil)
        total = _window_values(x, axes, flat, inside, 0.0).sum(-1)
        if divisor is None and not count_padding:
            count = inside.sum(-1)
        elif divisor is None:  # the padding counts, but not what `ceil` adds beyond it
            kernel, stride, padding, _ = settings
            count = torch.ones(1, dtype=torch.long)
            for n, k, s, p, o in zip(x.shape[-axes:], kernel, stride, padding, sizes):  # noqa: B905
                start = torch.arange(o) * s - p
                inner = (start + k).clamp(max=n + p) - start
                count = (count.unsqueeze(-1) * inner).reshape(-1)
        else:
            count = torch.full((1,), divisor)
        return (total / count).reshape(*x.shape[:-axes], *sizes)

    return formula


def by_index(axes: int) -> Callable[..., Tensor]:
    """The gradient of a pooling that stores the index of each element that it selects."""

    def formula(grad: Tensor, x: Tensor, *rest: Any) -> Tensor:
        rows = math.prod(x.shape[:-axes])
        out = torch.zeros(rows, math.prod(x.shape[-axes:]), dtype=grad.dtype)
        index = rest[-1].reshape(rows, -1).clone()
        return out.scatter_add(1, index, grad.reshape(rows, -1)).reshape(x.shape)

    return formula


def adaptive_pool(axes: int, largest: bool) -> Callable[..., Any]:
    def formula(x: Tensor, sizes: Any) -> Any:
        sizes = per_axis(sizes, axes)
        bins: Any = [
            [slice(i * n // o, -(-(i + 1) * n // o)) for i in range(o)]
            for n, o in zip(x.shape[-axes:], sizes)  # noqa: B905
        ]
        dims = list(range(-axes, 0))
        cells: Any = (x[(..., *cell)] for cell in itertools.product(*bins))
        parts = [cell.amax(dims) if largest else cell.mean(dims) for cell in cells]
        out = torch.stack(parts, -1).reshape(*x.shape[:-axes], *sizes)
        return (out, None) if largest else out

    return formula


def pool_gradient(formula: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The gradient of a pooling for its input."""

    def backward(grad: Tensor, x: Tensor, *rest: Any) -> Any:
        return gradient(lambda leaf: formula(leaf, *rest), [x], [grad])[0]

    return backward


def adaptive_gradient(axes: int) -> Callable[..., Any]:
    formula = adaptive_pool(axes, largest=False)

    def backward(grad: Tensor, x: Tensor, *_: Any) -> Any:
        return gradient(lambda leaf: formula(leaf, grad.shape[-axes:]), [x], [grad])[0]

    return backward


def nearest(axes: int, middle: float) -> Callable[..., Tensor]:
    """An enlarged or reduced image; `middle` is 0.5 if the centers of pixels are compared."""

    def formula(x: Tensor, sizes: Any, *scales: Any) -> Tensor:
        for axis, o in enumerate(sizes, -axes):
            n, scale = x.shape[axis], scales[axis] if scales and scales[axis] else None
            ratio = np.float32(1 / scale if scale else n / o)
            index = np.floor((np.arange(o, dtype=np.float32) + np.float32(middle)) * ratio)
            x = x.index_select(axis, torch.from_numpy(index.astype(int).clip(max=n - 1)))
        return x

    return formula


def nearest_gradient(formula: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def backward(grad: Tensor, sizes: Any, shape: Any, *scales: Any) -> Any:
        x = torch.zeros(list(shape), dtype=grad.dtype)
        return gradient(lambda leaf: formula(leaf, sizes, *scales), [x], [grad])[0]

    return backward
