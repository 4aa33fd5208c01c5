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
    gives = cache(ask)
    cause, minimal, rest_gives = tuple[str, ...](), False, None
    try:
        for smaller in shrinking(tuple(differences), lambda s: gives(frozenset(s)) == "B"):
            cause = smaller
        minimal = True
        rest = frozenset(differences).difference(cause)
        rest_gives = gives(rest) if cause and rest else None
    except Exhausted:
        pass
    left = tuple(name for name in differences if name not in cause)
    return Explanation(cause, minimal, left, rest_gives)


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
        smaller = next(filter(gives_b, chain(pieces, others)), None)
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


def described(explanation: Explanation, values: Differing) -> str:
    """The answer in words."""
    cause, rest = explanation.cause, explanation.rest
    if cause and explanation.minimal:
        sentence = f"Cause: {changes(cause, values)}{', together' * (len(cause) > 1)}."
        if not rest:
            return sentence
        names = ", ".join(rest) if explanation.rest_gives == "A" else changes(rest, values)
        return f"{sentence} {REST[explanation.rest_gives]}: {names}."
    if cause:
        known = f"Smallest set so far that gives B's bits: {changes(cause, values)}"
        return f"{known}. It may not be minimal."
    if explanation.minimal:
        return "None of the settings that differ explains the difference."
    return "Nothing is known yet of the settings that differ."


def changes(names: Sequence[str], values: Differing) -> str:
    """Each name with what it is in A and in B."""
    return ", ".join(f"{name} ({' → '.join(values[name])})" for name in names)
