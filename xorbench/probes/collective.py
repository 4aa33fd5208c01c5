"""Collectives of whole numbers: exact whatever the algorithm, the ring's order and its chunks.

A ring rounds at each hop, so that every partial sum must be exact in the type that travels:
members times the largest entry stay within its significand.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor, distributed

from xorbench.probes.check import ProbeResult, lacks
from xorbench.probes.exact import tensor, tensor_bits, whole_bits, width, wrong_elements
from xorbench.probes.integers import SIGNIFICAND, Whole, entries
from xorbench.universal.golden import Checked

LENGTH: Final = 1031  # of what each member gives or gets: odd, and no multiple of a chunk
TYPES: Final = ("float32", "float64", "bfloat16", "int64")


def check(device: torch.device, index: int, members: int) -> ProbeResult:
    """Every collective of every type, as member `index` sees it; the process group stands."""
    found = ProbeResult("collective", 0, [], [], [])
    checked = 0
    for name, (compute, right) in COLLECTIVES.items():
        for dtype in TYPES:
            what = f"{dtype} {name}"
            given = [_given(what, dtype, member, members) for member in range(members)]
            try:
                outcome = compute(tensor(given[index], dtype, device), index, members)
            except (RuntimeError, NotImplementedError) as error:
                if not lacks(error):
                    raise
                found.skipped.append(f"{what}: {' '.join(str(error).split())[:120]}")
                continue
            checked += 1
            expected = whole_bits(np.ascontiguousarray(right(given, index)), dtype)
            wrong = wrong_elements(expected, tensor_bits(outcome), width(dtype))
            if wrong.wrongs:
                said = f"{wrong.wrongs} of {expected.size} elements, {wrong.first[0]}"
                found.wrong.append(Checked(what, "the sum or copy of whole numbers", said))
    return found._replace(checked=checked)


def _given(name: str, dtype: str, member: int, members: int) -> Whole:
    """What a member brings, [members · LENGTH]."""
    largest = min(2 ** SIGNIFICAND.get(dtype, 40) // members, 2**20)
    return entries(f"{name}/{member}", 0, (members * LENGTH,), largest)


def _all_reduce(mine: Tensor, _index: int, _members: int) -> Tensor:
    distributed.all_reduce(mine)
    return mine


def _reduce_scatter(mine: Tensor, _index: int, members: int) -> Tensor:
    out = mine.new_empty(mine.numel() // members)
    distributed.reduce_scatter_tensor(out, mine)
    return out


def _all_gather(mine: Tensor, _index: int, members: int) -> Tensor:
    out = mine.new_empty(mine.numel() * members)
    distributed.all_gather_into_tensor(out, mine)
    return out


def _broadcast(mine: Tensor, _index: int, members: int) -> Tensor:
    distributed.broadcast(mine, members - 1)
    return mine


def _all_to_all(mine: Tensor, _index: int, _members: int) -> Tensor:
    out = torch.empty_like(mine)
    distributed.all_to_all_single(out, mine)
    return out


def _part(whole: Whole, index: int) -> Whole:
    """What of a member's numbers is another one's."""
    return whole[index * LENGTH : (index + 1) * LENGTH]


COLLECTIVES: Final[
    dict[str, tuple[Callable[[Tensor, int, int], Tensor], Callable[[list[Whole], int], Whole]]]
] = {
    "all_reduce": (_all_reduce, lambda given, _: sum(given[1:], start=given[0])),
    "reduce_scatter": (
        _reduce_scatter,
        lambda given, index: _part(sum(given[1:], start=given[0]), index),
    ),
    "all_gather": (_all_gather, lambda given, _: np.concatenate(given)),
    "broadcast": (_broadcast, lambda given, _: given[-1]),
    "all_to_all": (
        _all_to_all,
        lambda given, index: np.concatenate([_part(one, index) for one in given]),
    ),
}
"""Each collective, and what a member must have of it, from what all the members gave."""
