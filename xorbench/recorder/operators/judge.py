"""Judges one call of an operator: its error in units of the bound.

The bound is 8 times the largest response of the reference to noise, plus half a unit in the last
place of the output.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from .arrays import array
from .execution import WIDE, execute, is_float, plain, wide
from .noise import Noise
from .references import Bound, Operator

FACTOR = 8.0  # of the largest response
ROUNDED_FACTOR = 2.0  # of correctly rounded operators
LOW_FACTOR = 3.0  # of intermediates that are rounded to a low precision
# Numbers of noisy runs after which the error is compared, with the ratio that ends the runs. A few
# runs have a small response in some of many elements by chance.
HOPELESS = {2: 1e6, 4: 40.0, 8: 6.0, 16: 0.0}
LONGEST_S = 10.0  # processor time per kind
MOST_ELEMENTS = 1 << 23  # of the tensors of one call
FEW_ELEMENTS = 1 << 16  # of a result whose bound is computed for all elements
COMPUTED_IN = {
    **dict.fromkeys(WIDE, torch.float32),
    torch.complex128: torch.float64,
}
CORRECT, WRONG, NOT_JUDGED, EXPECTED = "correct", "wrong", "not judged", "low precision"
NUMBERS = (int, float, complex)
Array = Any  # of NumPy, whose operators are not judged


class Verdict(NamedTuple):
    """The verdict on a call: its state, the error in units of the bound, and the details."""

    state: str
    ratio: float = 0.0
    text: str = ""


class NotJudged(Exception):
    """The reason why a call is not judged."""


class Call(NamedTuple):
    """A call of an operator.

    Attributes:
        operator: the operator.
        before: its arguments and keyword arguments, with their values before the call.
        result: the returned value.
        after: its arguments and keyword arguments after the call.
        written: the positions of the written arguments, in the flat list of arguments.
        places: the index of each element in the whole result, per axis, if it is some elements.
    """

    operator: Operator
    before: Any
    result: Any
    after: Any
    written: list[int]
    places: tuple[Tensor, ...] | None = None

    def outputs(self) -> list[Any]:
        """The returned values, then the written arguments."""
        return outputs(self.result, tree_flatten(self.after)[0], self.written)


def outputs(result: Any, flat: list[Any], written: list[int]) -> list[Any]:
    """The returned values, then the written arguments."""
    return tree_flatten(result)[0] + [flat[i] for i in written if isinstance(flat[i], Tensor)]


def unit(dtype: torch.dtype) -> float:
    """Half the distance from 1 to the next number."""
    return torch.finfo(dtype).eps / 2


def unreadable(values: list[Any]) -> str:
    """The reason why tensors cannot be read; reading a ZeroTensor ends the process."""
    for tensor in (value for value in values if isinstance(value, Tensor)):
        if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
            return f"tensor subclass {type(tensor).__name__}"
        if tensor._is_zerotensor():
            return "tensor of zeros without storage"
        if tensor.is_quantized:
            return "quantized tensor"
        if tensor.is_nested:
            return "nested tensor"
        if tensor.layout != torch.strided:
            return f"layout {tensor.layout}"
    return ""


def sampled(call: Call) -> Call:
    """The call if it is small enough; else random elements of it, or some of its rows.

    The rows are random, the same for tensors with as many rows.
    """
    results, own = [t for t in call.outputs() if isinstance(t, Tensor) and t.dim()], call.operator
    every = [*results, *tree_flatten(call.before)[0]]
    share = MOST_ELEMENTS / max(1, sum(t.numel() for t in every if isinstance(t, Tensor)))
    if share >= 1:
        return call
    (args, kwargs), (after, after_kwargs) = call.before, call.after
    first, lists = next(iter(results), None), own.lists and "norm" not in own.name
    if first is not None and _pointwise(own):
        count, draws = first.numel(), torch.Generator().manual_seed(first.numel())
        return _elements(call, torch.randint(count, (int(share * count) + 1,), generator=draws))
    if first is None or not (lists or (own.row.rows and not _mixes_rows(own, args, first.dim()))):
        raise NotJudged(f"more than {MOST_ELEMENTS:,} elements")

    def pick(value: Any, fewer: int = 1) -> Any:
        """The rows of a tensor with as many, and at most `fewer` dimensions less."""
        if not isinstance(value, Tensor) or not value.dim():
            return value
        if not lists and (value.dim() < first.dim() - fewer or len(value) != len(first)):
            return value
        rows = torch.randperm(len(value), generator=torch.Generator().manual_seed(len(value)))
        return value[rows[: max(1, int(share * len(value)))].to(value.device)]

    if lists:
        args, kwargs, after, after_kwargs = tree_map(pick, (args, kwargs, after, after_kwargs))
    else:
        fewer = int(own.name == "embedding")  # its indices have no row of their own
        args = tuple(pick(a, fewer) if i in own.row.rows else a for i, a in enumerate(args))
        kwargs = {name: pick(value, 0) for name, value in kwargs.items()}
    return call._replace(
        before=(args, kwargs), result=tree_map(pick, call.result), after=(after, after_kwargs)
    )


def _pointwise(own: Operator) -> bool:
    """Whether each element of the result depends on one element of each argument."""
    return torch.Tag.pointwise in own.tags and not own.lists


def _mixes_rows(own: Operator, args: Any, axes: int) -> bool:
    """Whether a softmax or a normalization works across the rows."""
    if own.name.endswith("softmax"):
        return bool(args[1] % axes == 0)
    return own.name == "native_layer_norm" and len(args[1]) == axes


def _elements(call: Call, index: Tensor) -> Call:
    """Elements of a call that works element by element, by their position in the result."""
    shape = next(t for t in call.outputs() if isinstance(t, Tensor) and t.dim()).shape
    place = torch.unravel_index(index, shape)

    def pick(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.dim():
            return value
        return value.expand(shape)[tuple(axis.to(value.device) for axis in place)]

    before, result, after = tree_map(pick, (call.before, call.result, call.after))
    places = place if call.places is None else tuple(axis[index] for axis in call.places)
    return call._replace(before=before, result=result, after=after, places=places)


def judge(call: Call) -> Verdict:
    """Judge a call whose tensors can be read."""
    try:
        # subclasses without a dispatch of their own keep their functions
        with torch._C.DisableTorchFunction(), np.errstate(all="ignore"):
            return _judge(sampled(call))
    except NotJudged as reason:
        return Verdict(NOT_JUDGED, text=str(reason)[:160])


def _judge(call: Call) -> Verdict:
    own = call.operator
    if own.row.properties is not None and (verdict := _by_properties(call)) is not None:
        return verdict
    if own.row.bound in (Bound.RANDOM, Bound.NOT_UNIQUE, Bound.UNINITIALIZED):
        raise NotJudged(own.row.bound)
    if own.name == "view" and own.schema.overload_name == "dtype":
        return _same_bytes(call)
    verdict = _Comparison(call).verdict()
    if verdict.state == WRONG and own.eager is not None:
        args = tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, call.before[0])
        eager = call._replace(result=own.eager(*args), after=(args, {}))
        if _Comparison(eager).verdict().state == WRONG:
            raise NotJudged("also differs without compilation")
    return verdict


@contextlib.contextmanager
def _needed(part: str) -> Iterator[None]:
    """Name the error that prevents a part of the judgement."""
    try:
        yield
    except NotJudged:
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        raise NotJudged(f"no {part}: {type(error).__name__}: {first}") from error


def _by_properties(call: Call) -> Verdict | None:
    own = call.operator
    before, result = call.before, call.result
    if own.name != "as_strided":  # which reads the storage
        before, result = (tree_map(plain, tree) for tree in (before, result))
    with _needed("properties"):
        error = own.row.properties(own.named(*before), result) if own.row.properties else None
    if error is None:
        return None
    return Verdict(WRONG, math.inf, error) if error else Verdict(CORRECT)


def _same_bytes(call: Call) -> Verdict:
    """A view with another type has the same bytes."""
    pair = (plain(t).contiguous() for t in (call.before[0][0], call.result))
    same = torch.equal(*(t.view(torch.uint8).flatten() for t in pair))
    return Verdict(CORRECT) if same else Verdict(WRONG, math.inf, "the bytes differ")


class _Comparison:
    """Compares a call with its reference, first exactly, then with the bound."""

    def __init__(self, call: Call) -> None:
        self.call, self.row, self.got = call, call.operator.row, [*map(plain, call.outputs())]
        inputs = [t for t in tree_flatten(call.before)[0] if is_float(t)]
        self.floats = [g.dtype for g in self.got if is_float(g)] or [t.dtype for t in inputs]
        kinds = (*self.floats, *(t.dtype for t in inputs))
        self.low = max(kinds, key=unit, default=torch.float64)
        computed = (COMPUTED_IN.get(dtype, dtype) for dtype in self.floats)
        self.computed = max(computed, key=unit, default=torch.float64)
        self.began = time.process_time()

    def run(self, rounded: torch.dtype | None, noise: Noise) -> list[Any]:
        args, kwargs = wide(self.call.before, rounded)
        result, flat = execute(self.call.operator, args, kwargs, noise)
        values = outputs(result, flat, self.call.written)
        return [None if i in self.row.private else widened(v) for i, v in enumerate(values)]

    def roundings(self) -> list[Any]:
        """The types to which a Python number may be rounded before it is used; None for none."""
        numbers = any(type(x) is float for x in tree_flatten(self.call.before)[0])
        if not numbers or not self.floats:
            return [None]
        first = self.floats[0]
        kinds = dict.fromkeys((COMPUTED_IN.get(first, first), first))
        return [None, *(k for k in kinds if k.is_floating_point and k != torch.float64)]

    def verdict(self) -> Verdict:
        """The verdict, which names an element by its place in the whole result."""
        verdict, places = self._verdict(), self.call.places or ()

        def place(match: re.Match[str]) -> str:
            return ", ".join(str(int(axis[int(match[0])])) for axis in places) or match[0]

        return verdict._replace(text=re.sub(r"(?<=element \[)\d+(?=\] is )", place, verdict.text))

    def _verdict(self) -> Verdict:
        candidates, exact = [], self.row.bound == Bound.BITS
        for rounded in self.roundings():
            with _needed("reference"):
                expected = self.run(rounded, Noise())
            ratio, text = compare(self.got, expected, None, 0.0 if exact else FACTOR)
            if ratio <= 1:
                return Verdict(CORRECT, ratio)
            candidates.append((ratio, text, rounded, expected))
        candidates.sort(key=lambda candidate: candidate[0])
        ratio, text, _, expected = candidates[0]
        moves = self.row.bound in (Bound.BITS, Bound.EXACT)
        if not self.floats or (moves and not math.isfinite(ratio)):
            return Verdict(WRONG, ratio, text)
        if ratio <= 2 and not exact and unit(self.computed) == unit(self.low):
            return Verdict(CORRECT, ratio / FACTOR)  # one unit in the last place
        few = self._worst_elements(expected)
        return _Comparison(few).verdict() if few else self._with_bounds(candidates)

    def _worst_elements(self, expected: list[Any]) -> Call | None:
        """The elements with the largest errors of a large call that works element by element."""
        own, e = self.call.operator, expected[0]
        large = is_float(self.got[0]) and self.got[0].numel() > FEW_ELEMENTS
        if not _pointwise(own) or not large or tuple(self.got[0].shape) != e.shape:
            return None
        got, e = widened(self.got[0]).reshape(-1), e.reshape(-1)
        error = np.where(_same(got, e), 0.0, np.abs(got - e))
        sizes = error, error / (np.abs(e) + 1e-300)
        worst = [np.argpartition(size, -FEW_ELEMENTS // 8)[-FEW_ELEMENTS // 8 :] for size in sizes]
        return _elements(self.call, torch.from_numpy(np.concatenate(worst)))

    def _with_bounds(self, candidates: list[Any]) -> Verdict:
        ends: list[tuple[float, str]] = []
        for u, state in self._units():
            for _, _, rounded, expected in candidates:
                with _needed("bound"):
                    ratio, text = self._within(expected, rounded, u)
                if ratio <= 1:
                    return Verdict(state, ratio, text if state == EXPECTED else "")
                if state == CORRECT:
                    ends.append((ratio, text))
        return Verdict(WRONG, *min(ends))

    def _units(self) -> Iterator[tuple[float, str]]:
        """The sizes of the noise, and the state of a call whose error is within its bound."""
        yield unit(self.computed), CORRECT
        if unit(self.low) > unit(self.computed):
            if self.row.low:
                yield unit(self.low), CORRECT
            if self.row.low_sums:
                yield unit(self.low), EXPECTED

    def _within(self, expected: list[Any], rounded: Any, u: float) -> tuple[float, str]:
        """The smallest error in units of the bound, with up to 16 noisy runs."""
        smallest = torch.finfo(self.computed)
        tiny = smallest.smallest_normal * smallest.eps
        sums = u if self.row.low_sums else unit(self.computed)
        factor = ROUNDED_FACTOR if self.row.bound == Bound.ROUNDED else FACTOR
        factor = LOW_FACTOR if u > unit(self.computed) else factor
        rounds_too = self.computed == torch.float64  # so does the reference
        factor *= 2 if rounds_too else 1
        response: list[Any] | None = None
        for k in range(1, max(HOPELESS) + 1):
            if time.process_time() - self.began > LONGEST_S:
                raise NotJudged(f"takes longer than {LONGEST_S:.0f} s")
            noisy = self.run(rounded, Noise(u, sums, tiny, 1000 + k))
            response = _larger(response, noisy, expected)
            if k in HOPELESS:
                ratio, text = compare(self.got, expected, response, factor)
                if ratio <= 1 or (ratio > HOPELESS[k] and not rounds_too):
                    break  # further runs would not change the verdict
        return ratio, text


def _larger(response: list[Any] | None, noisy: list[Any], expected: list[Any]) -> list[Any]:
    """The largest responses so far, per element."""
    now = []
    for a, b in zip(noisy, expected):  # noqa: B905 - Python 3.9
        same = all(isinstance(x, np.ndarray) and x.dtype.kind in "fc" for x in (a, b))
        same = same and a.shape == b.shape
        now.append(np.nan_to_num(np.abs(a - b), nan=0.0, posinf=0.0) if same else None)
    if response is None:
        return now
    return [a if b is None else np.maximum(a, b) for a, b in zip(response, now)]  # noqa: B905


def compare(
    got: list[Any], expected: list[Any], response: list[Any] | None, factor: float
) -> tuple[float, str]:
    """The largest error in units of the bound, and its description."""
    worst, text = 0.0, ""
    for k, (g, e) in enumerate(zip(got, expected)):  # noqa: B905
        if isinstance(g, Tensor) and isinstance(e, np.ndarray):
            allowed = None if response is None or response[k] is None else factor * response[k]
            ratio, where = _compared(g, e, allowed, factor == 0)
        elif isinstance(g, NUMBERS) and isinstance(e, NUMBERS) and g != e and (g == g or e == e):
            ratio, where = math.inf, f"is {g}, must be {e}"
        else:
            continue
        if ratio > worst:
            worst, text = ratio, where if len(got) == 1 else f"output {k}: {where}"
    return worst, text


def _compared(g: Tensor, e: Array, allowed: Array | None, signed: bool) -> tuple[float, str]:
    if tuple(g.shape) != e.shape:
        return math.inf, f"shape {list(g.shape)}, must be {list(e.shape)}"
    if not g.numel():
        return 0.0, ""
    got, rounded = widened(g), widened(torch.from_numpy(e).to(g.dtype))
    if not is_float(g):
        return _worst(np.where(got != rounded, math.inf, 0.0), got, e)
    e, same = e.astype(got.dtype), _same(got, rounded)
    if signed and not g.is_complex():
        same = same & ((got != 0) | (np.signbit(got) == np.signbit(rounded)))
    if same.all():
        return 0.0, ""
    numbers = torch.finfo(g.dtype)
    half = _half_unit(e, numbers.eps) + numbers.smallest_normal * numbers.eps * 0.51
    bound = half if allowed is None else half + allowed
    ratio = np.where(same, 0.0, math.inf if signed else np.abs(got - e) / bound)
    ratio = np.where(np.isnan(ratio), math.inf, ratio)  # NaN or infinity on one side only
    return _worst(ratio, got, e)


def _same(a: Array, b: Array) -> Array:
    return (a == b) | ((a != a) & (b != b))


def widened(value: Any) -> Any:
    """An array with the values of a tensor; other values stay."""
    return array(
        value.to(WIDE.get(value.dtype, value.dtype)) if isinstance(value, Tensor) else value
    )


def _half_unit(e: Array, eps: float) -> Array:
    """Half a unit in the last place of numbers whose precision is `eps`."""
    if eps == torch.finfo(torch.float64).eps:  # the reference itself is rounded
        return np.abs(e) * (eps * 1.0001)
    if np.iscomplexobj(e):
        return np.abs(e) * (0.75 * eps)
    return np.ldexp(np.abs(np.sign(e)) * (eps / 4 * 1.0001), np.frexp(e)[1])


def _worst(ratio: Array, g: Array, e: Array) -> tuple[float, str]:
    flat = int(ratio.argmax())
    worst = float(ratio.reshape(-1)[flat])
    if worst == 0:
        return 0.0, ""
    place = [int(i) for i in np.unravel_index(flat, ratio.shape)]
    values = (_number(t.reshape(-1)[flat].item()) for t in (g, e))
    size = "" if math.isinf(worst) else f": {worst:,.3g} times the bound"
    return worst, "element {} is {}, must be {}{}".format(place, *values, size)


def _number(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)
