"""Decisions of a training: results that rounding may change by more than rounding.

A max-pool, a ReLU or a comparison near a tie may give a different result after different rounding.
Each decision is recorded as a sketch, so that two records give the number of different ones. Labels
and random draws, which rounding cannot change, are recorded as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .noise import FLOATS, base_name

Decision = Callable[[Any, Any], Any]  # takes the arguments and the result of an operator


def _indices(_args: Any, out: Any) -> Any:
    """Which elements were chosen, as a number between -1 and 1 for each."""
    chosen = out[1] if isinstance(out, (list, tuple)) else out
    return (chosen * 40503 % 1021).float() / 510.5 - 1


RULES: tuple[tuple[str, Decision], ...] = (
    ("relu leaky_relu prelu threshold abs sgn sign", lambda args, _out: args[0] > 0),
    ("clamp clamp_min clamp_max hardtanh relu6", lambda args, out: args[0] == out),
    ("maximum minimum fmax fmin l1_loss smooth_l1_loss huber_loss", lambda a, _out: a[0] > a[1]),
    ("gt lt ge le eq ne floor ceil round trunc", lambda _args, out: out),
    ("max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d", _indices),
    ("adaptive_max_pool3d max min topk sort kthvalue median mode argmax argmin", _indices),
    ("argsort searchsorted bucketize", _indices),
)
TABLE = {name: decide for names, decide in RULES for name in names.split()}
LABELS = ("nll_loss_forward", "nll_loss2d_forward")


@cache
def is_observed(func: Any) -> bool:
    """Whether an operator may decide, receive labels, or draw."""
    name = base_name(func)
    return name in TABLE or name in LABELS or _draws(func, name)


def decision_before(func: Any, args: Any) -> Any:
    """The argument that a deciding operator overwrites; None for other operators."""
    overwrites = func.overloadpacket.__name__.endswith("_") and base_name(func) in TABLE
    return args[0].clone() if overwrites and _is_float(args[0]) else None


def observed(func: Any, args: Any, out: Any, before: Tensor | None) -> Iterator[tuple[str, Tensor]]:
    """The decisions, labels and draws of an operator: kind and value."""
    name = base_name(func)
    if name in LABELS:
        yield "label", args[1]
    if _draws(func, name):
        for tensor in out[1:] if isinstance(out, (list, tuple)) else [out]:
            if isinstance(tensor, Tensor):
                yield "draw", tensor
    decide = TABLE.get(name)
    if decide is None or not (args and _is_float(args[0])):
        return
    if decide is _indices and not isinstance(out, (list, tuple)) and _is_float(out):
        return  # the largest value of a whole tensor
    arguments = args if before is None else (before, *args[1:])
    yield "decision", decide(arguments, out).to(torch.float32)


def _draws(func: Any, name: str) -> bool:
    return torch.Tag.nondeterministic_seeded in func.tags and "attention" not in name


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in FLOATS
