"""Steps of references by NumPy in place of PyTorch's kernels, which may be the faulty ones."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map


def array(value: Any) -> Any:
    """A tensor as an array of NumPy; other values stay."""
    whole = isinstance(value, Tensor)
    return value.detach().resolve_conj().resolve_neg().numpy() if whole else value


def _numpy(function: Callable[..., Any]) -> Callable[..., Any]:
    def formula(*args: Any, **kwargs: Any) -> Any:  # types and layouts do not matter
        kept = {name: kwargs[name] for name in kwargs if name in MEANT}
        with np.errstate(all="ignore"):
            out = function(*tree_map(array, list(args)), **kept)
        # np.array keeps 0 dimensions; a clone may have to be contiguous
        return tree_map(lambda part: torch.from_numpy(np.array(part, order="C")), out)

    return formula


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reduction over some dimensions, by default all."""

    def reduce(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        return function(x, axis=_axes(dim), keepdims=keepdim)

    return reduce


def _axes(dim: Any) -> Any:
    return (dim,) if isinstance(dim, int) else tuple(dim or ()) or None


def _variance(
    x: Any, dim: Any = None, unbiased: Any = True, keepdim: Any = False, **given: Any
) -> Any:
    if isinstance(dim, bool):  # var(x, unbiased)
        dim, unbiased = None, dim
    correction = given.get("correction")
    degrees = float(unbiased) if correction is None else correction
    return np.var(x, axis=_axes(dim), ddof=degrees, keepdims=keepdim)


def _norm(x: Any, order: Any = 2, dim: Any = None, keepdim: bool = False) -> Any:
    x, over = np.abs(x), {"axis": _axes(dim), "keepdims": keepdim}
    if abs(order) == math.inf:
        return (np.max if order > 0 else np.min)(x, **over)
    return np.sum(x != 0, **over) * 1.0 if order == 0 else np.sum(x**order, **over) ** (1 / order)


def _index(x: Any, index: Any) -> Any:
    return x[tuple(slice(None) if i is None else i for i in index)]


def _gather(x: Any, dim: int, index: Any) -> Any:
    at = np.atleast_1d(index)
    return np.take_along_axis(x[_part(x, at, dim)], at, dim).reshape(index.shape)


def _part(x: Any, index: Any, dim: int) -> Any:
    """The part of a tensor that the indices of a dimension concern."""
    own = dim % x.ndim
    return tuple(slice(None if axis == own else n) for axis, n in enumerate(index.shape))


def _scatter(x: Any, dim: int, index: Any, values: Any, combine: Any = None) -> Any:
    out, place = x.copy(), [*np.indices(index.shape)]
    place[dim] = index
    values = np.broadcast_to(values, index.shape) if np.ndim(values) == 0 else values
    values = values[tuple(map(slice, index.shape))]
    if combine is not None:
        combine.at(out, tuple(place), values)
    else:
        out[tuple(place)] = values
    return out


def _scatter_reduce(
    x: Any, dim: int, index: Any, source: Any, reduce: str, include_self: bool = True
) -> Any:
    combine, start = REDUCTIONS[reduce]
    counts = _scatter(np.zeros(x.shape), dim, index, 1.0, np.add)
    x = x if include_self else np.where(counts > 0, start, x)
    out = _scatter(x, dim, index, source, combine)
    return out / np.maximum(counts + include_self, 1) if reduce == "mean" else out


def _masked_scatter(x: Any, mask: Any, source: Any) -> Any:
    x, mask = (part.copy() for part in np.broadcast_arrays(x, mask))
    x[mask] = source.reshape(-1)[: mask.sum()]
    return x


def _distances(x: Any, y: Any, p: float, *_: Any) -> Any:
    """The norms of all differences of rows, one coordinate at a time."""
    sizes = (np.abs(x[..., :, None, i] - y[..., None, :, i]) for i in range(x.shape[-1]))
    if p == math.inf:
        return functools.reduce(np.maximum, sizes)
    total = sum(size != 0 if p == 0 else size**p for size in sizes)
    return total * 1.0 if p == 0 else total ** (1 / p)


def _inverse_real(x: Any, dims: Any, scaling: int, size: int) -> Any:
    sizes = [*(x.shape[d] for d in dims[:-1]), size]
    return np.fft.irfftn(x, sizes, dims, NORMS[2 - scaling])


MEANT = ("alpha", "correction", "include_self", "keepdim")
IGNORED = (
    "check_errors",
    "dtype",
    "layout",
    "device",
    "pin_memory",
    "memory_format",
    "sparse_grad",
)
REDUCTIONS: dict[str, Any] = {
    "sum": (np.add, 0.0), "prod": (np.multiply, 1.0), "mean": (np.add, 0.0),
    "amax": (np.maximum, -math.inf), "amin": (np.minimum, math.inf),
}  # fmt: skip
NORMS: Any = ("backward", "ortho", "forward")  # of Fourier transforms, in the order of ATen
# Moves of all types.
MOVES: dict[str, Callable[..., Any]] = {
    "clone": lambda x: x,
    "fill": np.full_like,
    "zero": np.zeros_like,
    "nonzero": np.argwhere,
    "masked_scatter": _masked_scatter,
    "copy": lambda x, source, *_: np.broadcast_to(source, x.shape).astype(x.dtype),
    "cat": lambda parts, dim=0: np.concatenate([p for p in parts if p.shape != (0,)] or parts, dim),
    "stack": lambda parts, dim=0: np.stack(parts, dim),
    "where": np.where,
    "masked_fill": lambda x, mask, value: np.asarray(np.where(mask, value, x), dtype=x.dtype),
    "index": _index,
    "_unsafe_index": _index,
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
    maximum:clamp_min minimum:clamp_max rint:round log10 arcsinh:asinh arccosh:acosh
    arctanh:atanh arctan2:atan2 hypot fmod remainder fmax fmin copysign isnan isinf isfinite signbit
    heaviside logical_and logical_or logical_xor logical_not bitwise_and
    bitwise_or bitwise_xor invert:bitwise_not vdot"""
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    **{name or own: getattr(np, own) for own, _, name in (w.partition(":") for w in SAME.split())},
    "relu": lambda x: np.maximum(x, 0.0),
    "sign": lambda x: np.nan_to_num(np.sign(x)),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "erf": np.vectorize(math.erf, [float]),
    "erfc": np.vectorize(math.erfc, [float]),
    "clamp": lambda x, low=None, high=None: np.minimum(
        np.maximum(x, -math.inf if low is None else low), math.inf if high is None else high
    ),
    "pow": lambda x, y: 1 / np.sqrt(x) if np.isscalar(y) and y == -0.5 else x**y,
    "add": lambda x, y, alpha=1: x + (y if alpha == 1 else alpha * y),
    "sub": lambda x, y, alpha=1: x - (y if alpha == 1 else alpha * y),
    "rsub": lambda x, y, alpha=1: y - (x if alpha == 1 else alpha * x),
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
}
OVER_AXES: dict[str, Callable[..., Any]] = {
    "sum": _reduce(np.sum),
    "mean": _reduce(np.mean),
    "prod": _reduce(np.prod),
    "amax": _reduce(np.max),
    "amin": _reduce(np.min),
    "var": _variance,
    "any": _reduce(np.any),
    "all": _reduce(np.all),
    "linalg_vector_norm": _norm,
    "logcumsumexp": np.logaddexp.accumulate,
    "scatter_add": lambda x, dim, index, source: _scatter(x, dim, index, source, np.add),
    "scatter_reduce": _scatter_reduce,
    "_cdist_forward": _distances,
    "linalg_inv_ex": lambda x, *_: (np.linalg.inv(x), np.zeros(x.shape[:-2], np.int32)),
    "linalg_cholesky_ex": lambda x: (np.linalg.cholesky(x), np.zeros(x.shape[:-2], np.int32)),
    "_fft_c2r": _inverse_real,
    "_fft_r2c": lambda x, dims, scaling, half: (np.fft.rfftn if half else np.fft.fftn)(
        x, axes=dims, norm=NORMS[scaling]
    ),
    "_fft_c2c": lambda x, dims, scaling, forward: (np.fft.fftn if forward else np.fft.ifftn)(
        x, axes=dims, norm=NORMS[scaling if forward else 2 - scaling]
    ),
}
# Functions, whose formula also holds for integers and complex numbers.
EVERY_TYPE = """add sub mul div abs neg square sum prod eq ne lt gt le ge maximum minimum amax amin
    any all mm bmm mv dot vdot logical_and logical_or logical_xor logical_not bitwise_and
    bitwise_or bitwise_xor bitwise_not fmod remainder rsub _fft_c2r _fft_c2c"""
NUMPY = {name: _numpy(formula) for name, formula in {**MOVES, **ELEMENTWISE, **OVER_AXES}.items()}


def independent(name: str, args: Any, kwargs: Any) -> Callable[..., Any] | None:
    """The step by NumPy; None if there is none."""
    first = next((t for t in tree_flatten(args)[0] if isinstance(t, Tensor)), None)
    if first is None or name not in NUMPY or set(kwargs) - {*MEANT, *IGNORED}:
        return None
    if not first.dim() and name not in ELEMENTWISE:
        return None
    moves = (name in MOVES or name in EVERY_TYPE.split()) and "dtype" not in kwargs
    return NUMPY[name] if moves or first.is_floating_point() else None
