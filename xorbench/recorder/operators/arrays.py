"""Steps of references by NumPy in place of PyTorch's kernels, which may be the faulty ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map


def _numpy(function: Callable[..., Any]) -> Callable[..., Any]:
    def array(value: Any) -> Any:
        whole = isinstance(value, Tensor)
        return value.detach().resolve_conj().resolve_neg().numpy() if whole else value

    def formula(*args: Any, **kwargs: Any) -> Any:  # types and layouts do not matter
        kept = {name: kwargs[name] for name in kwargs if name in MEANT}
        with np.errstate(all="ignore"):
            out = function(*tree_map(array, list(args)), **kept)
        # np.array keeps 0 dimensions
        return tree_map(lambda part: torch.from_numpy(np.array(part)), out)

    return formula


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reduction over some dimensions, by default all."""

    def reduce(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        return function(x, axis=_axes(dim), keepdims=keepdim)

    return reduce


def _axes(dim: Any) -> Any:
    return (dim,) if isinstance(dim, int) else tuple(dim or ()) or None


def _variance(
    x: Any, dim: Any = None, unbiased: Any = True, keepdim: bool = False, **given: Any
) -> Any:
    if isinstance(dim, bool):  # var(x, unbiased)
        dim, unbiased = None, dim
    correction = given.get("correction")
    degrees = int(unbiased) if correction is None else correction
    return np.var(x, axis=_axes(dim), ddof=degrees, keepdims=keepdim)


def _norm(x: Any, order: Any = 2, dim: Any = None, keepdim: bool = False) -> Any:
    x, over = np.abs(x), {"axis": _axes(dim), "keepdims": keepdim}
    if abs(order) == math.inf:
        return (np.max if order > 0 else np.min)(x, **over)
    return np.sum(x != 0, **over) * 1.0 if order == 0 else np.sum(x**order, **over) ** (1 / order)


def _index(x: Any, index: Any) -> Any:
    return x[tuple(slice(None) if i is None else i for i in index)]


def _gather(x: Any, dim: int, index: Any) -> Any:
    return np.take_along_axis(x[_part(x, index, dim)], index, dim)


def _part(x: Any, index: Any, dim: int) -> Any:
    """The part of a tensor that the indices of a dimension concern."""
    own = dim % x.ndim
    return tuple(slice(None if axis == own else n) for axis, n in enumerate(index.shape))


def _scatter(x: Any, dim: int, index: Any, values: Any, add: bool = False) -> Any:
    out, place = x.copy(), [*np.indices(index.shape)]
    place[dim] = index
    values = np.broadcast_to(values, index.shape) if np.ndim(values) == 0 else values
    values = values[tuple(map(slice, index.shape))]
    if add:
        np.add.at(out, tuple(place), values)
    else:
        out[tuple(place)] = values
    return out


MEANT = ("alpha", "correction", "keepdim")
IGNORED = ("dtype", "layout", "device", "pin_memory", "memory_format", "sparse_grad")
# Moves of all types.
MOVES: dict[str, Callable[..., Any]] = {
    "clone": lambda x: x,
    "copy": lambda x, source, *_: np.broadcast_to(source, x.shape).astype(x.dtype),
    "cat": lambda parts, dim=0: np.concatenate([p for p in parts if p.shape != (0,)] or parts, dim),
    "stack": lambda parts, dim=0: np.stack(parts, dim),
    "where": np.where,
    "masked_fill": lambda x, mask, value: np.asarray(np.where(mask, value, x), dtype=x.dtype),
    "index": _index,
    "index_select": lambda x, dim, index: np.take(x, index.reshape(-1), dim),
    "gather": lambda x, dim, index, *_: _gather(x, dim, index),
    "scatter": _scatter,
    "embedding": lambda table, index, *_: table[index],
    "flip": lambda x, dims: np.flip(x, tuple(dims)),
    "roll": lambda x, shifts, dims=(): np.roll(x, tuple(shifts), tuple(dims) or None),
    "repeat": lambda x, times: np.tile(x, tuple(times)),
    "tril": lambda x, diagonal=0: np.tril(x, diagonal),
    "triu": lambda x, diagonal=0: np.triu(x, diagonal),
    "cumsum": np.cumsum,
    "cumprod": np.cumprod,
}
# Functions of floating-point numbers; after a colon PyTorch's name if it differs.
SAME = """exp log tanh sin cos log1p expm1 log2 exp2 sqrt square reciprocal maximum minimum abs
    floor ceil trunc arctan:atan arcsin:asin arccos:acos sinh cosh tan equal:eq not_equal:ne less:lt
    greater:gt less_equal:le greater_equal:ge negative:neg matmul:mm matmul:bmm matmul:mv matmul:dot
    maximum:clamp_min minimum:clamp_max"""
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name or own: getattr(np, own) for own, _, name in (w.partition(":") for w in SAME.split())},
    "relu": lambda x: np.maximum(x, 0.0),
    "clamp": lambda x, low=None, high=None: np.minimum(
        np.maximum(x, -math.inf if low is None else low), math.inf if high is None else high
    ),
    "pow": lambda x, y: 1 / np.sqrt(x) if np.isscalar(y) and y == -0.5 else x**y,
    "add": lambda x, y, alpha=1: x + (y if alpha == 1 else alpha * y),
    "sub": lambda x, y, alpha=1: x - (y if alpha == 1 else alpha * y),
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "sum": _reduce(np.sum),
    "mean": _reduce(np.mean),
    "prod": _reduce(np.prod),
    "amax": _reduce(np.max),
    "amin": _reduce(np.min),
    "logsumexp": _reduce(np.logaddexp.reduce),
    "var": _variance,
    "linalg_vector_norm": _norm,
    "scatter_add": lambda x, dim, index, source: _scatter(x, dim, index, source, add=True),
}
NUMPY = {name: _numpy(function) for name, function in {**MOVES, **FUNCTIONS}.items()}


def independent(name: str, args: Any, kwargs: Any) -> Callable[..., Any] | None:
    """The step by NumPy; None if there is none."""
    first = next((t for t in tree_flatten(args)[0] if isinstance(t, Tensor)), None)
    if first is None or name not in NUMPY or not first.dim() or set(kwargs) - {*MEANT, *IGNORED}:
        return None
    moves = name in MOVES and "dtype" not in kwargs
    return NUMPY[name] if moves or first.is_floating_point() else None
