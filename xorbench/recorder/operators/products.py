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


def _grouped(x: Tensor, groups: int) -> Tensor:
    """Channels by group, and the elements of a plane as one row."""
    return x.reshape(len(x), groups, x.shape[1] // groups, math.prod(x.shape[2:]))


def _columns(x: Tensor, kernel: Any, shape: Any) -> Tensor:
    """The elements of each window: [batch, channels, *kernel, *outputs]."""
    x = torch.nn.functional.pad(x, [p for q in reversed(shape[1]) for p in (q, q)])
    for axis, (k, s, d) in enumerate(zip(kernel, shape[0], shape[2]), 2):  # noqa: B905
        x = x.unfold(axis, d * (k - 1) + 1, s)[..., ::d]
    axes = len(kernel)
    return x.permute(0, 1, *range(2 + axes, 2 + 2 * axes), *range(2, 2 + axes))


def _correlate(x: Tensor, weight: Tensor, shape: Any) -> Tensor:
    """A convolution, as one product of matrices."""
    columns, groups = _columns(x, weight.shape[2:], shape), shape[3]
    kernel = weight.reshape(groups, len(weight) // groups, weight[0].numel())
    sizes = columns.shape[weight.dim() :]
    out = kernel @ columns.reshape(len(x), groups, kernel.shape[2], math.prod(sizes))
    return out.reshape(len(x), len(weight), *sizes)


def _adjoint(y: Tensor, weight: Tensor, sizes: Any, shape: Any) -> Tensor:
    """The gradient of a convolution for its input, which is also the transposed convolution."""
    stride, padding, dilation, groups = shape
    kernel = weight.reshape(groups, len(weight) // groups, weight[0].numel())
    padded = (n + 2 * p for n, p in zip(sizes, padding))  # noqa: B905
    x = y.new_zeros(len(y), weight.shape[1] * groups, *padded)
    columns = (kernel.mT @ _grouped(y, groups)).reshape(
        *x.shape[:2], *weight.shape[2:], *y.shape[2:]
    )
    for k in itertools.product(*map(range, weight.shape[2:])):
        place = _window(y.shape[2:], k, stride, dilation)
        part: Any = (slice(None), slice(None), *k)
        x[place] += columns[part]
    inner: Any = (..., *(slice(p, p + n) for n, p in zip(sizes, padding)))  # noqa: B905
    return x[inner]


def _kernel_gradient(y: Tensor, x: Tensor, weight: Tensor, shape: Any) -> Tensor:
    """The gradient of a convolution for its kernel."""
    columns, groups = _columns(x, weight.shape[2:], shape), shape[3]
    inner: Any = (..., *map(slice, y.shape[2:]))
    places = math.prod(y.shape[2:])
    columns = columns[inner].reshape(len(x), groups, weight[0].numel(), places)
    return (_grouped(y, groups) @ columns.mT).sum(0).reshape(weight.shape)


def _shape(axes: int, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    return [*(per_axis(value, axes) for value in (stride, padding, dilation)), groups]


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

    def input_gradient(g: Tensor, w: Tensor) -> Tensor:
        if transposed:
            return _correlate(g, w, shape)[tuple(map(slice, x.shape))]
        return _adjoint(g, w, x.shape[2:], shape)

    terms = weight[0].numel() if transposed else weight[:, 0].numel() // groups
    gx = product(input_gradient, terms, grad, weight) if mask[0] else None
    pair = (x, grad) if transposed else (grad, x)  # the output and the input of the convolution
    terms = pair[0].numel() // pair[0].shape[1]
    kernel_gradient = lambda y, x: _kernel_gradient(y, x, weight, shape)  # noqa: E731
    gw = product(kernel_gradient, terms, *pair) if mask[1] else None
    return gx, gw, grad.sum([0, *range(2, 2 + axes)]) if mask[2] else None


def gradient(formula: Callable[..., Any], inputs: Any, grads: Any) -> Any:
    """The gradients of a formula, by autograd of its float64 steps."""
    included = torch._C._dispatch_tls_local_include_set()
    with torch._C._ForceDispatchKeyGuard(included, EXCLUDED), torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in inputs]
        return torch.autograd.grad(formula(*leaves), leaves, grads, allow_unused=True)


# Pooling


def _outer(tables: list[Tensor], combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Tables of windows and their elements per axis, as one table of windows in space."""
    out = tables[0]
    for table in tables[1:]:
        out = combine(out[:, None, :, None], table[:, None, :]).reshape(len(out) * len(table), -1)
    return out


def _sliding(
    plane: Any, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil: bool = False,
) -> list[Tensor]:  # fmt: skip
    """The positions of the elements of each window, per axis."""
    axes, places = len(plane), []
    rows = (per_axis(v, axes) for v in (kernel, stride or kernel, padding, dilation))
    for n, k, s, p, d in zip(plane, *rows):  # noqa: B905 - Python 3.9
        count = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil else 0)) // s + 1
        if ceil and (count - 1) * s >= n + p:
            count -= 1
        places.append(torch.arange(count).unsqueeze(1) * s - p + torch.arange(k) * d)
    return places


def _bins(plane: Any, sizes: Any) -> list[Tensor]:
    """The positions of the elements of each adaptive window, per axis; -1 for none."""
    places = []
    for n, o in zip(plane, per_axis(sizes, len(plane))):  # noqa: B905
        bounds = torch.tensor([[i * n // o, -(-(i + 1) * n // o)] for i in range(o)]).reshape(-1, 2)
        place = bounds[:, :1] + torch.arange(int(bounds.diff().max()) if o else 0)
        places.append(torch.where(place < bounds[:, 1:], place, -1))
    return places


def _pooled(x: Tensor, places: list[Tensor], outside: float) -> tuple[Tensor, Tensor]:
    """The elements of each window, and which of them are inside the plane."""
    axes, plane = len(places), x.shape[-len(places) :]
    rows = list(zip(places, plane, (math.prod(plane[i + 1 :]) for i in range(axes))))  # noqa: B905
    flat = _outer([place.clamp(0, n - 1) * step for place, n, step in rows], torch.add)
    inside = _outer([(place >= 0) & (place < n) for place, n, _ in rows], torch.logical_and)
    values = x.reshape(*x.shape[:-axes], math.prod(plane))[..., flat]
    return torch.where(inside, values, torch.full_like(values, outside)), inside


def _shaped(out: Tensor, places: list[Tensor]) -> Tensor:
    return out.reshape(*out.shape[:-1], *map(len, places))


def pools(axes: int) -> dict[Callable[..., Any], str]:
    """The formulas of poolings and of nearest neighbours, by operator."""

    def largest(windows: Callable[..., list[Tensor]]) -> Callable[..., Any]:
        def formula(x: Tensor, *settings: Any) -> tuple[Tensor, None]:
            places = windows(x.shape[-axes:], *settings)
            return _shaped(_pooled(x, places, -math.inf)[0].amax(-1), places), None

        return formula

    def average(
        x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, ceil: bool = False,
        count_padding: bool = True, divisor: Any = None,
    ) -> Tensor:  # fmt: skip
        places = _sliding(x.shape[-axes:], kernel, stride, padding, 1, ceil)
        values, counted = _pooled(x, places, 0.0)
        if count_padding:  # but not the elements that `ceil` adds beyond it
            rows = zip(places, x.shape[-axes:], per_axis(padding, axes))  # noqa: B905
            counted = _outer([place < n + p for place, n, p in rows], torch.logical_and)
        return _shaped(values.sum(-1) / (divisor or counted.sum(-1)), places)

    def adaptive(x: Tensor, sizes: Any) -> Tensor:
        places = _bins(x.shape[-axes:], sizes)
        values, inside = _pooled(x, places, 0.0)
        return _shaped(values.sum(-1) / inside.sum(-1), places)

    def by_index(grad: Tensor, x: Tensor, *rest: Any) -> Tensor:
        """The gradient of a pooling that stores the index of each element that it selects."""
        rows = math.prod(x.shape[:-axes])
        out = torch.zeros(rows, math.prod(x.shape[-axes:]), dtype=grad.dtype)
        index = rest[-1].reshape(rows, -1).clone()
        return out.scatter_add(1, index, grad.reshape(rows, -1)).reshape(x.shape)

    def adaptive_gradient(grad: Tensor, x: Tensor) -> Any:
        return pulled(lambda leaf: adaptive(leaf, grad.shape[-axes:]), x, grad)

    def average_gradient(grad: Tensor, x: Tensor, *rest: Any) -> Any:
        return pulled(lambda leaf: average(leaf, *rest), x, grad)

    name = f"adaptive_avg_pool{axes}d" if axes == 1 else f"_adaptive_avg_pool{axes}d"
    return {
        largest(_sliding): f"max_pool{axes}d_with_indices",
        largest(_bins): f"adaptive_max_pool{axes}d",
        by_index: f"max_pool{axes}d_with_indices_backward adaptive_max_pool{axes}d_backward",
        average: f"avg_pool{axes}d",
        average_gradient: f"avg_pool{axes}d_backward",
        adaptive: name,
        adaptive_gradient: f"{name}_backward",
        **_nearest(f"upsample_nearest{axes}d", axes, 0.0),
        **_nearest(f"_upsample_nearest_exact{axes}d", axes, 0.5),
    }


def pulled(formula: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Any:
    """The gradient of a formula of one tensor."""
    return gradient(formula, [x], [grad])[0]


def _nearest(name: str, axes: int, middle: float) -> dict[Callable[..., Any], str]:
    """An enlarged or reduced image; `middle` is 0.5 if the centers of pixels are compared."""

    def formula(x: Tensor, sizes: Any, *scales: Any) -> Tensor:
        for axis, o in enumerate(sizes, -axes):
            n, scale = x.shape[axis], scales[axis] if scales and scales[axis] else None
            ratio = np.float32(1 / scale if scale else n / o)
            index = np.floor((np.arange(o, dtype=np.float32) + np.float32(middle)) * ratio)
            x = x.index_select(axis, torch.from_numpy(index.astype(int).clip(max=n - 1)))
        return x

    def backward(grad: Tensor, sizes: Any, shape: Any, *scales: Any) -> Any:
        x = torch.zeros(list(shape), dtype=grad.dtype)
        return pulled(lambda leaf: formula(leaf, sizes, *scales), x, grad)

    return {formula: name, backward: f"{name}_backward"}
