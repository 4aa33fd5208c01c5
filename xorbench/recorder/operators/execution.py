"""Runs an operator by its reference, in float64 on contiguous copies, with or without noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch._refs
from torch import Tensor
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from .arrays import NUMPY, array, independent
from .noise import ACTIVE, Noise, growth
from .optimizers import lists
from .references import Bound, Operator, operator

KEPT = (Bound.BITS, Bound.EXACT, Bound.UNINITIALIZED)  # steps that do not round
# Moves by smaller moves.
COMPOSED = (
    *("constant_pad", "reflection_pad", "replication_pad", "pixel_", "channel_shuffle"),
    *("index_copy", "select_scatter", "slice_scatter", "hardtanh", "threshold"),
)

FLOAT8 = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
WIDE = {
    **{getattr(torch, name): torch.float64 for name in ("float32", "bfloat16", "float16", *FLOAT8)},
    torch.complex64: torch.complex128,
    torch.complex32: torch.complex128,
}
PRODUCTS = ("mm", "bmm", "dot", "mv", "vdot")
BY_INDEX = ("scatter_add", "scatter_reduce")
ACCUMULATED = ("index_reduce", "_unsafe_index_put", "index_put")
SOLVERS = ("linalg_", "_linalg_", "cholesky", "triangular_solve", "lu_")
TERMS_ACCUMULATED = 64
FUNCTION_ULPS = 8


class Steps(TorchDispatchMode):
    """Runs everything beneath it by formulas and decompositions, down to steps with noise."""

    def __init__(self, noise: Noise) -> None:
        super().__init__()
        self.noise = noise

    def __enter__(self) -> Any:
        ACTIVE.noise.append(self.noise)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        ACTIVE.noise.pop()
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, own = kwargs or {}, operator(func)
        if own.row.bound == Bound.RANDOM:
            raise NotImplementedError(f"random numbers in {func}")
        for compute in self._parts(own):
            with self:
                result = compute(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return self._step(own, args, kwargs)

    @staticmethod
    def _parts(own: Operator) -> Iterator[Callable[..., Any]]:
        """The ways to compute an operator by smaller steps."""
        if own.row.formula is not None and not own.writes_alias:
            yield own.row.formula
        elif own.row.bound not in KEPT or own.name.startswith(COMPOSED):
            if own.func._can_decompose():  # composites arrive whole in a handler
                yield own.func.decompose
            if own.row.bound not in (Bound.ROUNDED, Bound.SUM) and own.func in decomposition_table:
                yield decomposition_table[own.func]

    def _step(self, own: Operator, args: Any, kwargs: Any) -> Any:
        noise, bound, inplace = self.noise, own.row.bound, own.schema.is_mutable
        function = _functional(own) if inplace else None
        if function is not None:
            with self:
                result = function(*args, **kwargs)
            return args[0].copy_(result)
        compute = (not inplace and independent(own.name, args, kwargs)) or own.func
        if not noise.u or bound in KEPT:
            return compute(*args, **kwargs)
        if bound == Bound.SUM:
            size = (noise.u if own.name == "prod" else noise.sums) * _growth(own, args, kwargs)
            args = tuple(noise.add(value, size) for value in args)
        elif bound != Bound.ROUNDED and not inplace:
            args = tuple(noise.add(value, noise.u) for value in args)
        elif bound == Bound.ROUNDED and (kwargs.get("alpha", 1) != 1 or len(args) > 2):
            args = (args[0], noise.add(args[1], noise.u), *args[2:])  # the scaled term is rounded
        out = compute(*args, **kwargs)
        absolute = noise.u * _reach(args[0]) if bound == Bound.POSITIONS else 0.0
        is_function = bound == Bound.FUNCTION or own.name.startswith("special_")
        size = noise.u * (FUNCTION_ULPS if is_function else 1)
        exact = bound == Bound.ROUNDED
        noisy = tree_map(lambda value: noise.add(value, size, absolute, exact=exact), out)
        if inplace:
            tree_map(lambda old, new: isinstance(old, Tensor) and old.copy_(new), out, noisy)
            return out
        return noisy


def _reach(x: Tensor) -> float:
    """The change of a result if its position in an image is rounded, in units of the roundoff."""
    return float(x.abs().max()) * max(x.shape[-3:]) if x.numel() else 0.0


def _growth(own: Operator, args: Any, kwargs: Any) -> float:
    """How the error of a sum grows with its number of terms."""
    name = own.name
    if name in PRODUCTS:
        return growth(args[0].shape[-1])
    if name.startswith(SOLVERS) and name != "linalg_vector_norm":
        return float(args[0].shape[-1]) if args[0].dim() else 1.0
    if name in BY_INDEX:
        empty, ones = torch.zeros(args[0].shape).double(), torch.ones(args[2].shape).double()
        counts = NUMPY["scatter_add"](empty, args[1], args[2], ones)
        return growth(float(counts.max()) if counts.numel() else 1)
    if name in ACCUMULATED:
        return growth(TERMS_ACCUMULATED)
    if name.startswith(("cum", "logcum")):
        return growth(args[0].shape[args[1]] if args[0].dim() else 1)
    out = own.func(*args, **kwargs)
    first = out[0] if isinstance(out, tuple) else out
    return growth(args[0].numel() / max(1, first.numel()))


def is_float(value: Any) -> bool:
    """Whether this is a floating-point or complex tensor."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def plain(value: Any) -> Any:
    """A tensor without a lazy conjugate or negative, on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().resolve_conj().resolve_neg().cpu()
    return value


def wide(tree: Any, rounded: torch.dtype | None = None) -> Any:
    """Contiguous float64 copies of the arguments, one per tensor; everything is on the CPU.

    Python numbers are rounded to the type `rounded`, as some kernels do.
    """
    copies: dict[int, Tensor] = {}

    def convert(value: Any) -> Any:
        if isinstance(value, torch.dtype):
            return WIDE.get(value, value)
        if isinstance(value, torch.device):
            return torch.device("cpu")
        if rounded is not None and type(value) is float and math.isfinite(value):
            return float(torch.tensor(value, dtype=rounded))
        if not isinstance(value, Tensor):
            return value
        if id(value) not in copies:
            copy = plain(value)
            copy = copy.to(WIDE.get(copy.dtype, copy.dtype))
            copies[id(value)] = torch.from_numpy(np.array(array(copy), order="C"))
        return copies[id(value)]

    return tree_map(convert, tree)


def _functional(own: Operator) -> Any:
    """The functional form of an in-place operator; None if there is none."""
    if not own.full.endswith("_") or own.full.startswith("__"):
        return None
    return _same_inputs(own, own.full[:-1])


def execute(own: Operator, args: Any, kwargs: Any, noise: Noise) -> tuple[Any, list[Any]]:
    """The result of the reference, and its arguments after the call as a flat list."""
    flat, formula = tree_flatten((args, kwargs))[0], own.row.formula
    with Steps(noise):  # formulas run outside a handler, in which autograd does not record
        if own.lists:
            return lists(own.full, args, kwargs), flat
        if own.schema.overload_name.rpartition("_")[2] == "out" or "out" in kwargs:
            return _out_form(own, args, kwargs, flat)
        if formula is not None and not own.writes_alias:
            return formula(*args, **kwargs), flat
        function = _functional(own)
        if function is None:
            return own.func(*args, **kwargs), flat
        result = (operator(function).row.formula or function)(*args, **kwargs)
        return result, [result, *flat[1:]]


def _out_form(own: Operator, args: Any, kwargs: Any, flat: list[Any]) -> tuple[Any, list[Any]]:
    """An operator that writes into given tensors, by the form that returns its results."""
    outs = [a.name for a in own.schema.arguments if a.is_out]
    rest = {name: value for name, value in kwargs.items() if name not in outs}
    form = _same_inputs(own, own.full)
    if form is None:
        raise NotImplementedError("out= form")
    result = form(*args, **rest)
    results = list(result) if isinstance(result, (tuple, list)) else [result]
    written = {id(kwargs[name]): value for name, value in zip(outs, results)}  # noqa: B905
    return result, [written.get(id(value), value) for value in flat]


def _same_inputs(own: Operator, name: str) -> Any:
    """Another operator with a name and the inputs of this one; None if there is none."""
    packet = getattr(getattr(torch.ops, own.space), name, None)
    forms = (getattr(packet, overload) for overload in (packet.overloads() if packet else ()))
    return next((f for f in forms if _inputs(f) == _inputs(own.func) and f != own.func), None)


def _inputs(func: Any) -> list[tuple[str, str]]:
    return [(a.name, str(a.type)) for a in func._schema.arguments if not a.is_out]
