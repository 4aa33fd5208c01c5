"""Which differences make the bits differ: delta debugging over sets of differences.

A. Zeller and R. Hildebrandt, Simplifying and isolating failure-inducing input, 2002 (ddmin).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from typing import Literal

Set = frozenset[str]
Gives = Literal["A", "B", "other", "nothing"]  # whose bits; nothing where it does not train
Ask = Callable[[Set], Gives]
Differing = Mapping[str, tuple[str, str]]


class Exhausted(Exception):
    """No more trainings may be done."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The result of a search.

    Attributes:
        cause: differences that give A the bits of B; empty where none are known to.
        minimal: whether the search was completed: without any one of them B's bits are gone.
        rest: the other differences.
        rest_gives: whose bits these alone give; None where that was not tried.
    """

    cause: tuple[str, ...]
    minimal: bool
    rest: tuple[str, ...]
    rest_gives: Gives | None = None


def search(differences: Sequence[str], ask: Ask) -> Explanation:
    """Find a 1-minimal cause, then try all that is left alone; no set is asked about twice.

    `ask` says whose bits A gives with these differences set as B has them; it may raise
    `Exhausted`, which ends the search with what is known.
    """
    asked = cache(ask)
    cause, minimal, gives = tuple[str, ...](), False, None
    try:
        for smaller in shrinking(tuple(differences), lambda s: asked(frozenset(s)) == "B"):
            cause = smaller
        minimal = True
        rest = frozenset(differences).difference(cause)
        gives = asked(rest) if cause and rest else None
    except Exhausted:
        pass
    left = tuple(name for name in differences if name not in cause)
    return Explanation(cause, minimal, left, gives)


def shrinking(
    names: tuple[str, ...], gives_b: Callable[[tuple[str, ...]], bool]
) -> Iterator[tuple[str, ...]]:
    """Ever smaller sets that give B's bits, the last of them 1-minimal; none where all do not."""
    if not gives_b(names):
        return
    yield names
    parts = 2
    while len(names) > 1:
        pieces = split(names, parts)
        others = [tuple(chain(*pieces[:i], *pieces[i + 1 :])) for i in range(len(pieces))]
        smaller = next((one for one in chain(pieces, others) if gives_b(one)), None)
        if smaller is not None:
            parts = 2 if smaller in pieces else max(parts - 1, 2)
            names = smaller
            yield names
        elif parts == len(names):
            return
        else:
            parts = min(2 * parts, len(names))


def split(names: tuple[str, ...], parts: int) -> list[tuple[str, ...]]:
    """Consecutive pieces, as equal in size as can be."""
    bounds = [len(names) * part // parts for part in range(parts + 1)]
    return [names[low:high] for low, high in pairwise(bounds)]


REST: Mapping[Gives | None, str] = {
    "A": "No effect here",
    "B": "The rest alone gives B's bits too",
    "other": "The rest changes the bits too, to those of neither",
    "nothing": "The rest alone does not train here",
    None: "Not tried alone",
}


def described(found: Explanation, values: Differing) -> str:
    """The answer in words."""
    if found.cause and found.minimal:
        together = ", together" if len(found.cause) > 1 else ""
        return f"Cause: {changes(found.cause, values)}{together}.{_of_the_rest(found, values)}"
    if found.cause:
        known = f"Smallest set so far that gives B's bits: {changes(found.cause, values)}"
        return f"{known}. It may not be minimal."
    if found.minimal:
        return "None of the settings that differ explains the difference."
    return "Nothing is known yet of the settings that differ."


def _of_the_rest(found: Explanation, values: Differing) -> str:
    if not found.rest:
        return ""
    named = ", ".join(found.rest) if found.rest_gives == "A" else changes(found.rest, values)
    return f" {REST[found.rest_gives]}: {named}."


def changes(names: Sequence[str], values: Differing) -> str:
    """Each name with what it is in A and in B."""
    return ", ".join(f"{name} ({' → '.join(values[name])})" for name in names)
