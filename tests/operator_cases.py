"""Judge the operators of a function in this process, with or without a fault in a kernel."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from xorbench.recorder.operators.interception import JudgedOperators

Kinds = list[dict[str, Any]]


def judged(work: Callable[[], object], fault: Any = None) -> Kinds:
    """The kinds of call of a function, with their verdicts."""
    mode = JudgedOperators(SimpleNamespace(root="", with_source=False), "", fault)
    with mode:
        work()
    return list(mode.kinds.values())


def states(work: Callable[[], object], fault: Any = None) -> dict[str, str]:
    """The last verdict of each operator."""
    return {kind["operator"].split(".")[1]: kind["state"] for kind in judged(work, fault)}


def wrong(work: Callable[[], object], fault: Any = None) -> set[str]:
    """The operators with a wrong kind of call."""
    kinds = judged(work, fault)
    return {kind["operator"].split(".")[1] for kind in kinds if kind["state"] == "wrong"}


def broken(operator: str, change: Callable[[Tensor], None]) -> Any:
    """A kernel whose first output `change` alters in place."""

    def fault(func: Any, _args: Any, result: Any) -> Any:
        if func._schema.name.partition("::")[2] == operator:
            first = result[0] if isinstance(result, (tuple, list)) else result
            with torch.no_grad():
                change(first)
        return result

    return fault


def element(relative: float) -> Callable[[Tensor], None]:
    """One element, the first of the largest, is wrong by a relative error."""

    def change(result: Tensor) -> None:
        flat = result.view(-1) if result.is_contiguous() else result.flatten()
        place = int(flat.abs().argmax())
        flat[place] = flat[place] * (1 + relative)
        if flat.data_ptr() != result.data_ptr():
            result.copy_(flat.reshape(result.shape))

    return change
