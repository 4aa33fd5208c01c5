"""Collectives of integers, exact for every algorithm, order and chunk size of the ring.

A ring rounds at each hop, so every partial sum must be exact in the transferred type: the number of
members times the largest entry fits its significand.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
import torch
from torch import Tensor, distributed

from xorbench.machine.probes.check import ProbeResult
from xorbench.machine.probes.exact import tensor, tensor_bits, whole_bits, width, wrong_elements
from xorbench.machine.probes.integers import SIGNIFICAND, Whole, entries
from xorbench.machine.universal.golden import Checked

LENGTH: Final = 1031  # elements per member: odd and not a multiple of a chunk
TYPES: Final = ("float32", "float64", "bfloat16", "int64")


def check(device: torch.device, index: int, members: int) -> ProbeResult:
    """Check every collective of every type as member `index` of the default process group."""
    result = ProbeResult("collective")
    for collective in COLLECTIVES:
        for dtype in TYPES:
            compare = partial(_wrong, collective, dtype, device, index, members)
            result.add(f"{dtype} {collective}", compare)
    return result


def _wrong(
    collective: str, dtype: str, device: torch.device, index: int, members: int
) -> Checked | None:
    """The mismatch of a member's result, or None."""
    name, (compute, expected_of) = f"{dtype} {collective}", COLLECTIVES[collective]
    contributions = [_contribution(name, dtype, member, members) for member in range(members)]
    outcome = compute(tensor(contributions[index], dtype, device), index, members)
    expected = whole_bits(np.ascontiguousarray(expected_of(contributions, index)), dtype)
    mismatches, first = wrong_elements(expected, tensor_bits(outcome), width(dtype))
    if not mismatches:
        return None
    actual = f"{mismatches} of {expected.size} elements, {first[0]}"
    return Checked(name, "the sum or copy of integers", actual)


def _contribution(name: str, dtype: str, member: int, members: int) -> Whole:
    """The input of a member, [members · LENGTH]."""
    largest = min(2 ** SIGNIFICAND.get(dtype, 40) // members, 2**20)
    return entries(f"{name}/{member}", 0, (members * LENGTH,), largest)


def _all_reduce(local: Tensor, _index: int, _members: int) -> Tensor:
    distributed.all_reduce(local)
    return local


def _reduce_scatter(local: Tensor, _index: int, members: int) -> Tensor:
    out = local.new_empty(local.numel() // members)
    distributed.reduce_scatter_tensor(out, local)
    return out


def _all_gather(local: Tensor, _index: int, members: int) -> Tensor:
    out = local.new_empty(local.numel() * members)
    distributed.all_gather_into_tensor(out, local)
    return out


def _broadcast(local: Tensor, _index: int, members: int) -> Tensor:
    distributed.broadcast(local, members - 1)
    return local


def _all_to_all(local: Tensor, _index: int, _members: int) -> Tensor:
    out = torch.empty_like(local)
    distributed.all_to_all_single(out, local)
    return out


def _part(whole: Whole, index: int) -> Whole:
    """The part of one member's numbers that goes to member `index`."""
    return whole[index * LENGTH : (index + 1) * LENGTH]


COLLECTIVES: Final[
    dict[str, tuple[Callable[[Tensor, int, int], Tensor], Callable[[list[Whole], int], Whole]]]
] = {
    "all_reduce": (_all_reduce, lambda parts, _: sum(parts[1:], start=parts[0])),
    "reduce_scatter": (
        _reduce_scatter,
        lambda parts, index: _part(sum(parts[1:], start=parts[0]), index),
    ),
    "all_gather": (_all_gather, lambda parts, _: np.concatenate(parts)),
    "broadcast": (_broadcast, lambda parts, _: parts[-1]),
    "all_to_all": (
        _all_to_all,
        lambda parts, index: np.concatenate([_part(part, index) for part in parts]),
    ),
}
"""Each collective, and a function from all members' inputs to a member's expected result."""
