"""Convolution, pooling, interpolation of indices: formulas in float64 by windows and products."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .noise import product


def per_axis(value: Any, count: int) -> list[Any]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * count if len(values) == 1 else values


def _window(sizes: Any, offset: Any, stride: Any, dilation: Any) -> tuple[Any, ...]:
    """The index of the elements that one kernel position touches."""
    rows = zip(sizes, offset, stride, dilation)  # noqa: B905 - Python 3.9
    axes = (slice(k * d, k * d + (n - 1) * s + 1, s) for n, k, s, d in rows)
    return (slice(None), slice(None), *axes)


def _padded(x: Tensor, padding: Any) -> Tensor:
    return torch.nn.functional.pad(x, [p for q in reversed(padding) for p in (q, q)])


def _positions(weight_shape: Any) -> Any:
    return itertools.product(*map(range, weight_shape[2:]))


class Correlation:
    """The shape of a convolution; its three products are adjoint to each other."""

    def __init__(self, stride: Any, padding: Any, dilation: Any, groups: int, axes: int) -> None:
        self.stride, self.padding, self.dilation = (
            per_axis(value, axes) for value in (stride, padding, dilation)
        )
        self.groups, self.axes = groups, axes

    def _grouped(self, weight: Tensor) -> Tensor:
        return weight.reshape(self.groups, -1, *weight.shape[1:])

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """The output of a convolution."""
        return product(self._forward, weight[0].numel(), x, weight)

    def _forward(self, x: Tensor, weight: Tensor) -> Tensor:
        x, kernel = _padded(x, self.padding), weight.shape[2:]
        rows = zip(x.shape[2:], kernel, self.stride, self.dilation)  # noqa: B905
        sizes = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in rows]
        grouped, count = self._grouped(weight), weight.shape[1]
        out = x.new_zeros(x.shape[0], self.groups, weight.shape[0] // self.groups, math.prod(sizes))
        for k in _positions(weight.shape):
            part = x[_window(sizes, k, self.stride, self.dilation)]
            out += grouped[(..., *k)] @ part.reshape(x.shape[0], self.groups, count, -1)
        return out.reshape(x.shape[0], weight.shape[0], *sizes)

    def transposed(self, y: Tensor, weight: Tensor, sizes: Any) -> Tensor:
        """The gradient for the input, which is also the transposed convolution."""
        terms = weight.shape[0] // self.groups * weight[0, 0].numel()
        return product(lambda a, b: self._transposed(a, b, sizes), terms, y, weight)

    def _transposed(self, y: Tensor, weight: Tensor, sizes: Any) -> Tensor:
        count, padding = weight.shape[1], self.padding
        larger = [n + 2 * p for n, p in zip(sizes, padding)]  # noqa: B905
        x = y.new_zeros([y.shape[0], count * self.groups, *larger])
        grouped, flat = (
            self._grouped(weight),
            y.reshape(y.shape[0], self.groups, -1, y[0, 0].numel()),
        )
        for k in _positions(weight.shape):
            part = grouped[(..., *k)].transpose(1, 2) @ flat
            window = _window(y.shape[2:], k, self.stride, self.dilation)
            x[window] += part.reshape(y.shape[0], -1, *y.shape[2:])
        inner = (slice(p, p + n) for p, n in zip(padding, sizes))  # noqa: B905
        return x[(slice(None), slice(None), *inner)]

    def weights(self, x: Tensor, y: Tensor, shape: Any) -> Tensor:
        """The gradient for the weight."""
        terms = y.shape[0] * y[0, 0].numel()
        return product(lambda a, b: self._weights(a, b, shape), terms, x, y)

    def _weights(self, x: Tensor, y: Tensor, shape: Any) -> Tensor:
        x = _padded(x, self.padding)

        def by_group(t: Tensor) -> Tensor:
            split = t.reshape(t.shape[0], self.groups, t.shape[1] // self.groups, -1)
            return split.permute(1, 2, 0, 3).reshape(self.groups, split.shape[2], -1)

        flat = by_group(y)
        windows = (_window(y.shape[2:], k, self.stride, self.dilation) for k in _positions(shape))
        parts = [(flat @ by_group(x[w]).transpose(1, 2)).reshape(shape[:2]) for w in windows]
        return torch.stack(parts, -1).reshape(*shape)


def convolution(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool = False, output_padding: Any = 0, groups: int = 1, *_: Any,
) -> Tensor:  # fmt: skip
    axes = weight.dim() - 2
    if single := x.dim() == axes + 1:
        x = x.unsqueeze(0)
    shape = Correlation(stride, padding, dilation, groups, axes)
    if transposed:
        rows = zip(x.shape[2:], weight.shape[2:], shape.stride, shape.padding, shape.dilation)  # noqa: B905
        sizes = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in rows]
        more = per_axis(output_padding, axes)
        out = shape.transposed(x, weight, [n + o for n, o in zip(sizes, more)])  # noqa: B905
    else:
        out = shape.forward(x, weight)
    if bias is not None:
        out = out + bias.reshape(1, -1, *[1] * axes)
    return out[0] if single else out


def convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, _bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, _output_padding: Any, groups: int, mask: Any,
) -> tuple[Any, Any, Any]:  # fmt: skip
    axes = weight.dim() - 2
    shape = Correlation(stride, padding, dilation, groups, axes)
    gx = gw = gb = None
    if mask[0] and transposed:
        inner = (slice(0, n) for n in x.shape[2:])
        gx = shape.forward(grad, weight)[(slice(None), slice(None), *inner)]
    elif mask[0]:
        gx = shape.transposed(grad, weight, x.shape[2:])
    if mask[1]:
        gw = shape.weights(*((grad, x) if transposed else (x, grad)), weight.shape)
    if mask[2]:
        gb = grad.sum([0, *range(2, 2 + axes)])
    return gx, gw, gb


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


def gradient(formula: Callable[..., Any], inputs: Any, grads: Any) -> Any:
    """The gradients of a formula, by autograd of its float64 steps."""
    with torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in inputs]
        return torch.autograd.grad(formula(*leaves), leaves, grads, allow_unused=True)


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
