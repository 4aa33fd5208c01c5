"""Decisions of a training: results that rounding may change by more than rounding.

A max-pool, a ReLU or a comparison near a tie may give a different result after different rounding.
Each decision is recorded as a sketch, so that two records give the number of different ones. Labels
and random draws, which rounding cannot change, are recorded as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .noise import FLOATS, base_name

Decision = Callable[[Any, Any], Any]  # takes the arguments and the result of an operator


def _positive(args: Any, _out: Any) -> Any:
    return args[0] > 0


def _unchanged(args: Any, out: Any) -> Any:
    return args[0] == out


def _larger(args: Any, _out: Any) -> Any:
    return args[0] > args[1]


def _result(_args: Any, out: Any) -> Any:
    return out


def _indices(_args: Any, out: Any) -> Any:
    """Which elements were chosen, as a number between -1 and 1 for each."""
    chosen = out[1] if isinstance(out, (list, tuple)) else out
    return (chosen * 40503 % 1021).float() / 510.5 - 1


TABLE: dict[str, Decision] = {
    **dict.fromkeys(("relu", "leaky_relu", "prelu", "threshold", "abs", "sgn", "sign"), _positive),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max", "hardtanh", "relu6"), _unchanged),
    **dict.fromkeys(("maximum", "minimum", "fmax", "fmin"), _larger),
    **dict.fromkeys(("l1_loss", "smooth_l1_loss", "huber_loss"), _larger),
    **dict.fromkeys(("gt", "lt", "ge", "le", "eq", "ne"), _result),
    **dict.fromkeys(("floor", "ceil", "round", "trunc"), _result),
    **dict.fromkeys(
        (
            *("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d"),
            *("adaptive_max_pool3d", "max", "min", "topk", "sort", "kthvalue", "median", "mode"),
            *("argmax", "argmin", "argsort", "searchsorted", "bucketize"),
        ),
        _indices,
    ),
}
IN_PLACE = (_positive, _unchanged)  # they need the argument before it is overwritten
LABELS = ("nll_loss_forward", "nll_loss2d_forward")


def decision_before(func: Any, args: Any) -> Any:
    """The decision of an operator that overwrites its argument; None for other operators."""
    if not func.overloadpacket.__name__.endswith("_"):
        return None
    name = base_name(func)
    decide = TABLE.get(name)
    if decide is _positive and _is_float(args[0]):
        return _positive(args, None)
    return args[0].clone() if decide is _unchanged and _is_float(args[0]) else None


def observed(func: Any, args: Any, out: Any, before: Tensor | None) -> Iterator[tuple[str, Tensor]]:
    """The decisions, labels and draws of an operator: kind and value."""
    name = base_name(func)
    if name in LABELS:
        yield "label", args[1]
    if torch.Tag.nondeterministic_seeded in func.tags and "attention" not in name:
        for tensor in out[1:] if isinstance(out, (list, tuple)) else [out]:
            if isinstance(tensor, Tensor):
                yield "draw", tensor
    decide = TABLE.get(name)
    if decide is None or not (args and _is_float(args[0])):
        return
    if decide is _indices and not isinstance(out, (list, tuple)) and _is_float(out):
        return  # the largest value of a whole tensor
    if before is not None:
        value = before if decide is _positive else before == out
    else:
        value = decide(args, out)
    yield "decision", value.to(torch.float32)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in FLOATS
