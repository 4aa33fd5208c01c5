"""Properties of results that have no single correct value: indices, random numbers, factors.

Each function takes the inputs, the result and the arguments after the call. It returns the error,
an empty text for a correct result, or None if the property does not apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Property = Callable[[Any, Any, Any, Any], str | None]
LARGEST_Z = 6.0  # standard deviations; about 2 in 10⁹ for a correct generator
LARGEST_D = 3.5  # Kolmogorov-Smirnov statistic times √n; about 5 in 10¹¹


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _argument(args: Any, kwargs: Any, position: int, name: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


# Indices


def _points_at(index: Tensor, x: Tensor, dim: int, values: Tensor) -> bool:
    """Whether indices are inside a dimension and point at the values."""
    inside = not index.numel() or 0 <= int(index.min()) <= int(index.max()) < x.shape[dim]
    return inside and _equal(x.gather(dim, index), values)


def extreme(name: str) -> Property:
    """Values and indices of `max` and `min` along a dimension."""

    def check(args: Any, kwargs: Any, result: Any, _after: Any) -> str | None:
        x, dim = args[0], _argument(args, kwargs, 1, "dim", None)
        if not isinstance(result, tuple) or not isinstance(dim, int) or not x.dim():
            return None
        keep = _argument(args, kwargs, 2, "keepdim", False)
        values, index = result if keep else (t.unsqueeze(dim) for t in result)
        if not _equal(values, getattr(x, name)(dim, keepdim=True)):
            return "the values are not the extremes"
        return "" if _points_at(index, x, dim, values) else "an index does not fit its value"

    return check


def extreme_index(name: str) -> Property:
    """The index of an extreme."""

    def check(args: Any, kwargs: Any, result: Any, _after: Any) -> str | None:
        x, dim = args[0], _argument(args, kwargs, 1, "dim", None)
        if not x.dim() or x.is_complex():
            return None
        if dim is None:
            x, dim, index = x.reshape(-1), 0, result.reshape(1)
        else:
            keep = _argument(args, kwargs, 2, "keepdim", False)
            index = result if keep else result.unsqueeze(dim)
        fits = _points_at(index, x, dim, getattr(x, name)(dim, keepdim=True))
        return "" if fits else "the index does not point at an extreme"

    return check


def _sorted(x: Tensor, dim: int, descending: bool) -> Tensor:
    wide = x.double() if x.is_floating_point() else x
    ordered = torch.from_numpy(np.sort(wide.numpy(), axis=dim))
    return ordered.flip(dim) if descending else ordered


def _distinct(index: Tensor, dim: int) -> bool:
    return bool((torch.sort(index, dim)[0].diff(dim=dim) > 0).all())


def top(args: Any, kwargs: Any, result: Any, _after: Any) -> str | None:
    x, count, dim = args[0], args[1], _argument(args, kwargs, 2, "dim", -1)
    if not x.dim() or _has_nan(x):
        return None
    largest = bool(_argument(args, kwargs, 3, "largest", True))
    values, index = result
    ordered = torch.sort(values, dim, descending=largest)[0]
    if not _equal(
        ordered.to(torch.float64), _sorted(x, dim, largest).narrow(dim, 0, count).double()
    ):
        return "the values are not the extremes"
    fits = _points_at(index, x, dim, values) and _distinct(index, dim)
    return "" if fits else "an index does not fit its value"


def _has_nan(x: Tensor) -> bool:
    return x.is_floating_point() and bool((x != x).any())


def sort(args: Any, kwargs: Any, result: Any, _after: Any) -> str | None:
    x, rest = args[0], args[1:]
    dims = [a for a in rest if isinstance(a, int) and not isinstance(a, bool)]
    flags = [a for a in rest if isinstance(a, bool)]
    if not x.dim() or _has_nan(x):
        return None
    dim = dims[0] if dims else kwargs.get("dim", -1)
    descending = bool(kwargs.get("descending", flags[-1] if flags else False))
    values, index = result
    if not _equal(values, _sorted(x, dim, descending).to(values.dtype)):
        return "the values are not sorted"
    fits = _points_at(index, x, dim, values) and _distinct(index, dim)
    return "" if fits else "the indices are not a permutation that sorts"


def pooled(axes: int) -> Property:
    """The indices of a pooling point at its values; the formula checks the values."""

    def check(args: Any, _kwargs: Any, result: Any, _after: Any) -> str | None:
        plane = args[0].reshape(*args[0].shape[:-axes], -1)
        if not result[1].numel():
            return None
        values, index = (t.reshape(*plane.shape[:-1], -1) for t in result)
        return None if _points_at(index, plane, -1, values) else "an index misses its value"

    return check


# Random numbers


def _share(x: Tensor, p: float) -> str:
    """Whether a share p of the elements is nonzero."""
    count, hits = x.numel(), int((x != 0).sum())
    limit = LARGEST_Z * math.sqrt(count * p * (1 - p)) + 1
    return "" if abs(hits - count * p) <= limit else f"{hits / count:.4f} are nonzero, must be {p}"


def bernoulli(default: float | None) -> Property:
    """Zeros and ones; without a default, the first argument holds the chances."""

    def check(args: Any, kwargs: Any, result: Any, _after: Any) -> str | None:
        p = _argument(args, kwargs, 1, "p", default)
        if not bool(((result == 0) | (result == 1)).all()):
            return "not only 0 and 1"
        if isinstance(p, (int, float)):
            return _share(result, float(p))
        chances = (p if isinstance(p, Tensor) else args[0]).double().expand(result.shape)
        limit = LARGEST_Z * float((chances * (1 - chances)).sum().clamp(min=0).sqrt()) + 1
        wrong = abs(float((result.double() - chances).sum())) > limit
        return "the share of ones does not fit" if wrong else ""

    return check


def dropout(args: Any, _kwargs: Any, result: Any, _after: Any) -> str | None:
    (x, p, train), (y, mask) = args[:3], result
    if train is False or not 0 < p < 1:
        return None
    scaled = torch.where(mask, x.double() / (1 - p), torch.zeros((), dtype=torch.float64))
    u = torch.finfo(y.dtype).eps
    if not bool(((y.double() - scaled).abs() <= 4 * u * scaled.abs()).all()):
        return "the result is not the input times the mask"
    return _share(mask, 1 - p)


def distributed(cdf: Callable[..., Any], *defaults: float) -> Property:
    """Whether random numbers follow a distribution function, by Kolmogorov and Smirnov."""

    def check(args: Any, kwargs: Any, result: Any, after: Any) -> str | None:
        own = [a for a in args[1:] if isinstance(a, (int, float))]
        values = _names(kwargs, own) if defaults else []
        parameters = [*values, *defaults[len(values) :]]
        if not isinstance(result, Tensor) or not result.numel():
            return None
        x = np.sort(result.double().numpy().ravel())
        if not np.isfinite(x).all():
            return "a random number is not finite"
        expected, count = cdf(x, *parameters), len(x)
        coarse = LARGEST_COARSE.get(result.dtype, 0.0)  # neighbouring values of a low precision
        above = (np.searchsorted(x, x, side="right") / count - expected).max()
        below = (expected - np.searchsorted(x, x, side="left") / count).max()
        distance = max(above, below) - coarse
        wrong = distance * math.sqrt(count) > LARGEST_D
        return f"not of its distribution: distance {distance:.4f}" if wrong else ""

    return check


LARGEST_COARSE = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def _names(kwargs: Any, own: list[Any]) -> list[Any]:
    named = ("from", "mean", "lambd", "to", "std")
    return own or [kwargs[name] for name in named if name in kwargs]


def uniform(x: Any, low: float, high: float) -> Any:
    return np.where((x < low) | (x > high), np.inf, (x - low) / max(high - low, 1e-300))


def normal(x: Any, mean: float, std: float) -> Any:
    z = torch.from_numpy((x - mean) / (std or 1e-300))
    return torch.special.ndtr(z).numpy()


def exponential(x: Any, rate: float) -> Any:
    return np.where(x < 0, np.inf, -np.expm1(-rate * x))


def whole_numbers(args: Any, kwargs: Any, result: Any, _after: Any) -> str | None:
    """`randint`: whole numbers in a range, evenly distributed."""
    bounds = [a for a in args if isinstance(a, int)]
    if not bounds or not result.numel():
        return None
    low, high = (0, bounds[0]) if len(bounds) == 1 else bounds[:2]
    x = result.double()
    if not low <= float(x.min()) <= float(x.max()) < high or bool((x != x.floor()).any()):
        return "a random number is outside its range"
    spread = math.sqrt(((high - low) ** 2 - 1) / 12 / x.numel())
    off = abs(float(x.mean()) - (low + high - 1) / 2)
    return "the mean does not fit" if off > LARGEST_Z * spread + 1e-9 else ""


def permutation(args: Any, _kwargs: Any, result: Any, _after: Any) -> str | None:
    fits = _equal(torch.sort(result)[0], torch.arange(args[0], dtype=result.dtype))
    return "" if fits else "not a permutation"


# Factors of matrices, by their residual


def _residual(parts: Callable[..., tuple[Tensor, list[Tensor]]]) -> Property:
    """`parts` returns the product of the factors and the factors with orthonormal columns."""

    def check(args: Any, kwargs: Any, result: Any, _after: Any) -> str | None:
        kind = (
            torch.complex128 if result[-1].is_complex() or result[0].is_complex() else torch.float64
        )
        factors = [t.to(kind) if t.is_floating_point() or t.is_complex() else t for t in result]
        x = args[0].to(kind)
        if not x.numel() or any(not t.numel() for t in factors):
            return None
        expected, orthonormal = parts(x, *factors)
        u = torch.finfo(args[0].dtype).eps
        limit = 64 * u * max(x.shape[-2:]) * max(float(x.abs().max()), 1e-300)
        if float((expected[0] - expected[1]).abs().max()) > limit * max(x.shape[-2:]):
            return "the factors do not give the matrix"
        for q in orthonormal:
            gram = q.mH @ q
            off = gram - torch.eye(gram.shape[-1], dtype=kind)
            if float(off.abs().max()) > 64 * u * q.shape[-2]:
                return "the columns are not orthonormal"
        return ""

    return check


def _svd(x: Tensor, u: Tensor, s: Tensor, vh: Tensor) -> Any:
    count = s.shape[-1]
    made = (u[..., :count] * s.unsqueeze(-2)) @ vh[..., :count, :]
    return (x, made), [u, vh.mH]


def _eigh(x: Tensor, values: Tensor, vectors: Tensor) -> Any:
    made = vectors * values.unsqueeze(-2)
    halves = (x.tril() + x.tril(-1).mH) @ vectors, (x.triu() + x.triu(1).mH) @ vectors
    return (min(halves, key=lambda half: float((half - made).abs().max())), made), [vectors]


def _qr(x: Tensor, q: Tensor, r: Tensor) -> Any:
    return (x, q @ r), [q]


svd, eigh, qr = _residual(_svd), _residual(_eigh), _residual(_qr)


# Storage and discontinuities


def as_strided(args: Any, kwargs: Any, result: Any, _after: Any) -> str | None:
    """Read the elements from the storage by their offsets."""
    x, size, stride = args[0], list(args[1]), list(args[2])
    offset = _argument(args, kwargs, 3, "storage_offset", None)
    offset = x.storage_offset() if offset is None else offset
    flat = torch.empty(0, dtype=x.dtype, device=x.device).set_(x.untyped_storage())
    index = torch.full([1] * len(size), offset, dtype=torch.long)
    for axis, (n, s) in enumerate(zip(size, stride)):  # noqa: B905 - Python 3.9
        index = index + (torch.arange(n) * s).reshape(
            [n if i == axis else 1 for i in range(len(size))]
        )
    expected = flat.cpu()[index.reshape(-1)].reshape(size)
    return "" if _equal(result.cpu(), expected) else "the elements are not those of the storage"


def floor_division(args: Any, _kwargs: Any, result: Any, _after: Any) -> str | None:
    """The floor of a rounded quotient: both branches at a whole number are correct."""
    if not isinstance(result, Tensor) or not result.is_floating_point():
        return None
    a, b = (
        t.double() if isinstance(t, Tensor) else torch.tensor(float(t), dtype=torch.float64)
        for t in args[:2]
    )
    quotient, u = a / b, torch.finfo(result.dtype).eps
    low, high = (torch.floor(quotient * (1 + side)).to(result.dtype) for side in (-u, u))
    fits = (result == low) | (result == high) | (result == torch.floor(quotient).to(result.dtype))
    fits = fits | ~torch.isfinite(quotient)
    return "" if bool(fits.all()) else "not the floor of the quotient"
