"""Properties of results that have no single correct value: indices, random numbers, factors.

Each function takes the arguments by name, with their defaults, and the result. It returns the
error, an empty text for a correct result, or None if the formula decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

Arguments = Mapping[str, Any]
Property = Callable[[Arguments, Any], "str | None"]
LARGEST_Z = 6.0  # standard deviations; about 2 in 10⁹ for a correct generator
LARGEST_D = 3.5  # Kolmogorov-Smirnov statistic times √n; about 5 in 10¹¹
COARSE = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}  # neighbouring values of a precision


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


# Indices


def _points_at(index: Tensor, x: Tensor, dim: int, values: Tensor) -> str:
    """Whether indices are inside a dimension and point at the values."""
    inside = not index.numel() or 0 <= int(index.min()) <= int(index.max()) < x.shape[dim]
    fits = inside and _equal(x.gather(dim, index), values)
    return "" if fits else "an index does not point at its value"


def extreme(name: str) -> Property:
    """The index of an extreme, and the extreme if the operator returns it."""

    def check(a: Arguments, result: Any) -> str | None:
        x = a["self"]
        if "dim" not in a or not x.dim() or x.is_complex():
            return None
        values, index = result if isinstance(result, tuple) else (None, result)
        x, dim = (x.reshape(-1), 0) if a["dim"] is None else (x, a["dim"])
        numbers = (x.double() if x.is_floating_point() else x).numpy()
        expected = torch.from_numpy(getattr(np, name)(numbers, axis=dim, keepdims=True)).to(x.dtype)
        if values is not None and not _equal(values.reshape(expected.shape), expected):
            return "the values are not the extremes"
        return _points_at(index.reshape(expected.shape), x, dim, expected)

    return check


def sort(a: Arguments, result: Any) -> str | None:
    """Sorted values, or the first of them, and their indices."""
    (x, dim), (values, index) = (a["self"], a["dim"]), result
    if not x.dim() or (x.is_floating_point() and bool((x != x).any())):
        return None
    down = bool(a.get("largest", a.get("descending")))
    numbers = (x.double() if x.is_floating_point() else x).numpy()
    expected = torch.from_numpy(np.sort(numbers, axis=dim))
    expected = (expected.flip(dim) if down else expected).narrow(dim, 0, values.shape[dim])
    ordered = values if a.get("sorted", True) else torch.sort(values, dim, descending=down)[0]
    if not _equal(ordered, expected.to(values.dtype)):
        return "the values are not the extremes" if "largest" in a else "the values are not sorted"
    distinct = bool((torch.sort(index, dim)[0].diff(dim=dim) > 0).all())
    return _points_at(index, x, dim, values) if distinct else "an index occurs twice"


def pooled(axes: int) -> Property:
    """The indices of a pooling point at its values; the formula checks the values."""

    def check(a: Arguments, result: Any) -> str | None:
        plane = a["self"].reshape(*a["self"].shape[:-axes], -1)
        if not result[1].numel():
            return None
        values, index = (t.reshape(*plane.shape[:-1], -1) for t in result)
        return _points_at(index, plane, -1, values) or None

    return check


# Random numbers


def bernoulli(a: Arguments, result: Any) -> str | None:
    """Zeros and ones with given chances, which the tensor holds if there is no `p`."""
    if not bool(((result == 0) | (result == 1)).all()):
        return "not only 0 and 1"
    return _share(result, torch.as_tensor(a.get("p", a["self"])))


def _share(x: Tensor, p: Tensor) -> str:
    """Whether elements are nonzero with their chances."""
    chances = p.double().expand(x.shape)
    limit = LARGEST_Z * math.sqrt(float((chances * (1 - chances)).sum().clamp(min=0))) + 1
    hits, expected = int((x != 0).sum()), float(chances.sum())
    text = f"{hits:,} of {x.numel():,} are nonzero, must be about {expected:,.0f}"
    return "" if abs(hits - expected) <= limit else text


def dropout(a: Arguments, result: Any) -> str | None:
    """The scaled input times a mask with the given share."""
    (x, p), (y, mask) = (a["input"], a["p"]), result
    if a["train"] is False or not 0 < p < 1:
        return None
    scaled = torch.where(mask, x.double() / (1 - p), torch.zeros((), dtype=torch.float64))
    near = (y.double() - scaled).abs() <= 4 * torch.finfo(y.dtype).eps * scaled.abs()
    fits = bool((near | ((y != y) & (scaled != scaled))).all())
    return (
        _share(mask, torch.tensor(1 - p)) if fits else "the result is not the input times the mask"
    )


def distributed(cdf: Callable[..., Any], *names: str) -> Property:
    """Whether random numbers follow a distribution function, by Kolmogorov and Smirnov."""

    def check(a: Arguments, result: Any) -> str | None:
        parameters = [a[name] for name in names if name in a]
        if not result.numel() or any(isinstance(value, Tensor) for value in parameters):
            return None if result.numel() else ""
        x = np.sort(result.double().numpy().ravel())
        if not np.isfinite(x).all():
            return "a random number is not finite"
        expected, count = cdf(x, *parameters), len(x)
        above = (np.searchsorted(x, x, side="right") / count - expected).max()
        below = (expected - np.searchsorted(x, x, side="left") / count).max()
        distance = max(above, below) - COARSE.get(result.dtype, 0.0)
        wrong = distance * math.sqrt(count) > LARGEST_D
        return f"not of its distribution: distance {distance:.4f}" if wrong else ""

    return check


def uniform(x: Any, low: float = 0.0, high: float = 1.0) -> Any:
    return np.where((x < low) | (x > high), np.inf, (x - low) / max(high - low, 1e-300))


def normal(x: Any, mean: float = 0.0, std: float = 1.0) -> Any:
    return torch.special.ndtr(torch.from_numpy((x - mean) / (std or 1e-300))).numpy()


def exponential(x: Any, rate: float) -> Any:
    return np.where(x < 0, np.inf, -np.expm1(-rate * x))


def cauchy(x: Any, median: float, sigma: float) -> Any:
    return 0.5 + np.arctan((x - median) / sigma) / math.pi


def log_normal(x: Any, mean: float, std: float) -> Any:
    return np.where(x < 0, np.inf, normal(np.log(np.maximum(x, 1e-300)), mean, std))


def whole_numbers(a: Arguments, result: Any) -> str | None:
    """Whole numbers in a range, evenly distributed."""
    low, high = a.get("low", a.get("from", 0)), a.get("high", a.get("to"))
    x = result.double()
    if high is None or not x.numel():
        return None if x.numel() else ""
    if not low <= float(x.min()) <= float(x.max()) < high or bool((x != x.floor()).any()):
        return "a random number is outside its range"
    spread = math.sqrt(((high - low) ** 2 - 1) / 12 / x.numel())
    off = abs(float(x.mean()) - (low + high - 1) / 2)
    return "the mean does not fit" if off > LARGEST_Z * spread + 1e-9 else ""


def permutation(a: Arguments, result: Any) -> str | None:
    fits = _equal(torch.sort(result)[0], torch.arange(a["n"], dtype=result.dtype))
    return "" if fits else "not a permutation"


# Factors of matrices, by their residual


def factors(parts: Callable[..., Any]) -> Property:
    """`parts` returns the matrix, the product of the factors, and the orthonormal factors."""

    def check(a: Arguments, result: Any) -> str | None:
        x = a["A"]
        kind = torch.complex128 if x.is_complex() else torch.float64
        if not x.numel() or any(not t.numel() for t in result):
            return None
        expected, made, orthonormal = parts(x.to(kind), *(t.to(kind) for t in result), a)
        size = max(x.shape[-2:])
        limit = 64 * torch.finfo(x.dtype).eps * size
        if float((expected - made).abs().max()) > limit * size * max(float(x.abs().max()), 1e-300):
            return "the factors do not give the matrix"
        grams = [(q.mH @ q - torch.eye(q.shape[-1], dtype=kind)).abs().max() for q in orthonormal]
        return "the columns are not orthonormal" if any(gram > limit for gram in grams) else ""

    return check


def svd(x: Tensor, u: Tensor, s: Tensor, vh: Tensor, _a: Arguments) -> Any:
    count = s.shape[-1]
    return x, (u[..., :count] * s.unsqueeze(-2)) @ vh[..., :count, :], [u, vh.mH]


def eigh(x: Tensor, values: Tensor, vectors: Tensor, a: Arguments) -> Any:
    lower = str(a["UPLO"]).upper() == "L"
    whole = x.tril() + x.tril(-1).mH if lower else x.triu() + x.triu(1).mH
    return whole @ vectors, vectors * values.unsqueeze(-2), [vectors]


def qr(x: Tensor, q: Tensor, r: Tensor, _a: Arguments) -> Any:
    return x, q @ r, [q]


# Storage and discontinuities


def as_strided(a: Arguments, result: Any) -> str | None:
    """Read the elements from the storage by their offsets."""
    x, offset = a["self"], a["storage_offset"]
    index = torch.tensor(x.storage_offset() if offset is None else offset)
    for n, s in zip(a["size"], a["stride"]):  # noqa: B905 - Python 3.9
        index = index.unsqueeze(-1) + torch.arange(n) * s
    flat = torch.empty(0, dtype=x.dtype, device=x.device).set_(x.untyped_storage()).cpu()
    fits = _equal(result.cpu(), flat[index])
    return "" if fits else "the elements are not those of the storage"


def floor_division(a: Arguments, result: Any) -> str | None:
    """The floor of a rounded quotient: both branches at a whole number are correct."""
    if not result.is_floating_point():
        return None
    pair = (torch.as_tensor(a[name]).double() for name in ("self", "other"))
    quotient, u = torch.div(*pair), torch.finfo(result.dtype).eps
    near = [torch.floor(quotient * factor).to(result.dtype) for factor in (1 - u, 1, 1 + u)]
    fits = sum((result == value) for value in near).bool() | ~torch.isfinite(quotient)
    return "" if bool(fits.all()) else "not the floor of the quotient"
