"""Which differences make the bits differ: the search for the smallest sets."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

Set = frozenset[str]


def smallest(candidates: Sequence[str], gives_b: Callable[[Set], bool]) -> list[Set]:
    """Every set of candidates that gives B's bits while none of its own subsets does.

    Smaller sets are tried first, and none that holds a set already found; `gives_b` is asked about
    each set once.
    """
    found: list[Set] = []
    for size in range(1, len(candidates) + 1):
        for subset in map(frozenset, combinations(candidates, size)):
            if not any(known <= subset for known in found) and gives_b(subset):
                found.append(subset)
    return found


def described(found: Sequence[Set], values: dict[str, tuple[str, str]]) -> Iterator[str]:
    """What to set, in words, for each set; or that nothing here does."""
    for one in found:
        changes = ", ".join(
            f"{name} from {values[name][0]} to {values[name][1]}" for name in sorted(one)
        )
        yield f"A has B's bits with {changes}"
    if not found:
        yield "nothing that differs between them, and can be set here, gives A the bits of B"
