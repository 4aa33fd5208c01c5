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
        if "other" in a or not x.dim() or x.is_complex():
            return None
        numbers = (x.double() if x.is_floating_point() else x).numpy()
        if "dim" not in a:
            expected = torch.from_numpy(np.asarray(getattr(np, name)(numbers))).to(x.dtype)
            return "" if _equal(result, expected) else "not the extreme"
        values, index = result if isinstance(result, tuple) else (None, result)
        x, dim = (x.reshape(-1), 0) if a["dim"] is None else (x, a["dim"])
        numbers = numbers.reshape(tuple(x.shape))
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
    if not bool((torch.sort(index, dim)[0].diff(dim=dim) > 0).all()):
        return "an index occurs twice"
    moved = (values.diff(dim=dim) == 0) & (index.diff(dim=dim) < 0)
    if a.get("stable") and bool(moved.any()):
        return "equal values are in a different order"
    return _points_at(index, x, dim, values)


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
    chances, hits = (part.double().flatten() for part in (p.expand(x.shape), x != 0))
    for part in (slice(None), slice(x.numel() // 2)):  # a half too
        own, found, expected = chances[part], float(hits[part].sum()), float(chances[part].sum())
        limit = LARGEST_Z * math.sqrt(float((own * (1 - own)).sum().clamp(min=0))) + 1
        if abs(found - expected) > limit:
            return f"{found:,.0f} of {len(own):,} are nonzero, must be about {expected:,.0f}"
    return ""


def dropout(a: Arguments, result: Any) -> str | None:
    """The scaled input times a mask with the given share."""
    (x, p), (y, mask) = (a["input"], a["p"]), result
    if a["train"] is False or not 0 < p < 1:
        return None
    scaled = (mask * x.double() / (1 - p)).to(y.dtype)  # zero times infinity is NaN
    near = (y.double() - scaled).abs() <= 4 * torch.finfo(y.dtype).eps * scaled.abs().double()
    fits = bool((near | (y == scaled) | ((y != y) & (scaled != scaled))).all())
    return (
        _share(mask, torch.tensor(1 - p)) if fits else "the result is not the input times the mask"
    )


def distributed(cdf: Callable[..., Any], *names: str) -> Property:
    """Whether random numbers follow a distribution function, by Kolmogorov and Smirnov."""

    def check(a: Arguments, result: Any) -> str | None:
        parameters = [a[name] for name in names if name in a]
        if result.is_complex() or any(isinstance(value, Tensor) for value in parameters):
            return None
        if not result.numel():
            return ""
        x = np.sort(result.double().numpy().ravel())
        if not np.isfinite(x).all():
            return "a random number is not finite"
        step, count = torch.finfo(result.dtype).eps * np.abs(x) + 1e-300, len(x)  # of the rounding
        low, high = cdf(x - step, *parameters), cdf(x + step, *parameters)
        if (high <= 0).any() or (low >= 1).any():
            return "a random number is outside its range"
        above = (np.searchsorted(x, x, side="right") / count - high).max()
        below = (low - np.searchsorted(x, x, side="left") / count).max()
        distance = max(above, below) - torch.finfo(result.dtype).eps / 2  # the grid of a generator
        wrong = distance * math.sqrt(count) > LARGEST_D
        return f"not of its distribution: distance {distance:.4f}" if wrong else ""

    return check


def uniform(x: Any, low: float = 0.0, high: float = 1.0) -> Any:
    return np.clip((x - low) / max(high - low, 1e-300), 0, 1)


def normal(x: Any, mean: float = 0.0, std: float = 1.0) -> Any:
    return torch.special.ndtr(torch.from_numpy((x - mean) / (std or 1e-300))).numpy()


def exponential(x: Any, rate: float) -> Any:
    return -np.expm1(-rate * np.maximum(x, 0))


def cauchy(x: Any, median: float, sigma: float) -> Any:
    return 0.5 + np.arctan((x - median) / sigma) / math.pi


def log_normal(x: Any, mean: float, std: float) -> Any:
    return normal(np.log(np.maximum(x, 1e-300)), mean, std)


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
    """`parts` returns the matrix, the product of the factors, the orthonormal ones, and the form.

    The form is the order of the values, or the zeros of a triangular factor.
    """

    def check(a: Arguments, result: Any) -> str | None:
        x = a["A"]
        kind = torch.complex128 if x.is_complex() else torch.float64
        if not x.numel() or any(not t.numel() for t in result):
            return None
        expected, made, orthonormal, ordered = parts(x.to(kind), *(t.to(kind) for t in result), a)
        limit = 64 * torch.finfo(x.dtype).eps
        sizes = x.to(kind).abs().square().sum((-2, -1), keepdim=True).sqrt()
        if not bool(((expected - made).abs() <= limit * sizes).all()):  # NaN is an error too
            return "the factors do not give the matrix"
        grams = [(q.mH @ q - torch.eye(q.shape[-1], dtype=kind)).abs().max() for q in orthonormal]
        if not all(gram <= limit * math.sqrt(max(x.shape[-2:])) for gram in grams):
            return "the columns are not orthonormal"
        return "" if bool(ordered.all()) else "the factors do not have their form"

    return check


def svd(x: Tensor, u: Tensor, s: Tensor, vh: Tensor, _a: Arguments) -> Any:
    count = s.shape[-1]
    made = (u[..., :count] * s.unsqueeze(-2)) @ vh[..., :count, :]
    return x, made, [u, vh.mH], torch.cat([-s.real.diff(dim=-1), s.real], -1) >= 0


def eigh(x: Tensor, values: Tensor, vectors: Tensor, a: Arguments) -> Any:
    lower = str(a["UPLO"]).upper() == "L"
    whole = x.tril() + x.tril(-1).mH if lower else x.triu() + x.triu(1).mH
    return whole @ vectors, vectors * values.unsqueeze(-2), [vectors], values.real.diff(dim=-1) >= 0


def qr(x: Tensor, q: Tensor, r: Tensor, _a: Arguments) -> Any:
    return x, q @ r, [q], r == r.triu()


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


def whole_quotient(default: str | None) -> Property:
    """The floor or the whole part of a rounded quotient: both branches are correct."""

    def check(a: Arguments, result: Any) -> str | None:
        mode = a.get("rounding_mode", default)
        if mode is None or not result.is_floating_point():
            return None
        quotient = torch.div(*(torch.as_tensor(a[name]).double() for name in ("self", "other")))
        fits = _either(result, quotient, getattr(torch, mode), 1.0)
        return "" if fits else f"not the {mode} of the quotient"

    return check


def rounded(a: Arguments, result: Any) -> str | None:
    """A number rounded to decimals: both branches are correct near the middle."""
    if not a.get("decimals") or not result.is_floating_point():
        return None
    unit = 10.0 ** -a["decimals"]
    fits = _either(result, a["self"].double() / unit, torch.round, unit)
    return "" if fits else "not a nearest decimal number"


def _either(result: Tensor, x: Tensor, cut: Callable[[Tensor], Tensor], unit: float) -> bool:
    """Whether a result is that of a discontinuous function for x or a neighbour of it."""
    u = torch.finfo(result.dtype).eps
    near = [cut(x * factor) * unit for factor in (1 - u, 1, 1 + u)]
    fits = torch.stack([(result.double() - v).abs() <= u * v.abs() for v in near]).any(0)
    return bool((fits | ~torch.isfinite(x)).all())
