"""Collectives of whole numbers: exact whatever the algorithm, the ring's order and its chunks.

A ring rounds at each hop, so that every partial sum must be exact in the type that travels:
members times the largest entry stay within its significand.
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

LENGTH: Final = 1031  # of what each member gives or gets: odd, and no multiple of a chunk
TYPES: Final = ("float32", "float64", "bfloat16", "int64")


def check(device: torch.device, index: int, members: int) -> ProbeResult:
    """Every collective of every type, as member `index` sees it; the process group stands."""
    result = ProbeResult("collective")
    for collective in COLLECTIVES:
        for dtype in TYPES:
            compare = partial(_wrong, collective, dtype, device, index, members)
            result.add(f"{dtype} {collective}", compare)
    return result


def _wrong(
    collective: str, dtype: str, device: torch.device, index: int, members: int
) -> Checked | None:
    """What is wrong with a member's result; None where nothing is."""
    name, (compute, right) = f"{dtype} {collective}", COLLECTIVES[collective]
    contributions = [_contribution(name, dtype, member, members) for member in range(members)]
    outcome = compute(tensor(contributions[index], dtype, device), index, members)
    expected = whole_bits(np.ascontiguousarray(right(contributions, index)), dtype)
    wrongs, first = wrong_elements(expected, tensor_bits(outcome), width(dtype))
    if not wrongs:
        return None
    actual = f"{wrongs} of {expected.size} elements, {first[0]}"
    return Checked(name, "the sum or copy of whole numbers", actual)


def _contribution(name: str, dtype: str, member: int, members: int) -> Whole:
    """What a member brings, [members · LENGTH]."""
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
    """The numbers of one member that another one gets."""
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
"""Each collective, and what a member must have of it, from what all the members gave."""
