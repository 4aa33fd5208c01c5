"""Find the differences that change the result: delta debugging over sets of differences.

A. Zeller and R. Hildebrandt, Simplifying and isolating failure-inducing input, 2002 (ddmin).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from typing import Literal

Set = frozenset[str]
Gives = Literal["A", "B", "neither", "failure"]  # the side with identical bits
Ask = Callable[[Set], Gives]
Differing = Mapping[str, tuple[str, str]]


class Exhausted(Exception):
    """The limit on trainings is reached."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The result of a search.

    Attributes:
        cause: differences that make A identical to B; empty if none are known.
        minimal: whether the search was completed, so that every element of the cause is needed.
        rest: the other differences.
        rest_gives: the result of only the other differences; None if that was not tried.
    """

    cause: tuple[str, ...]
    minimal: bool
    rest: tuple[str, ...]
    rest_gives: Gives | None = None


def search(differences: Sequence[str], ask: Ask) -> Explanation:
    """Find a 1-minimal cause, then try only the other differences; no set is tried twice.

    `ask` returns the side whose bits A has with these differences set as in B. If it raises
    `Exhausted`, the search ends with its smallest set so far.
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
    """Ever smaller sets that give B's bits, the last 1-minimal; none if the full set does not."""
    if not gives_b(names):
        return
    yield names
    parts = 2
    while len(names) > 1:
        pieces = split(names, parts)
        complements = [tuple(chain(*pieces[:i], *pieces[i + 1 :])) for i in range(len(pieces))]
        smaller = next(filter(gives_b, chain(pieces, complements)), None)
        if smaller is not None:
            parts = 2 if smaller in pieces else max(parts - 1, 2)
            names = smaller
            yield names
        elif parts == len(names):
            return
        else:
            parts = min(2 * parts, len(names))


def split(names: tuple[str, ...], parts: int) -> list[tuple[str, ...]]:
    """Consecutive pieces of nearly equal size."""
    bounds = [len(names) * part // parts for part in range(parts + 1)]
    return [names[low:high] for low, high in pairwise(bounds)]


REST: Mapping[Gives | None, str] = {
    "A": "No effect here",
    "B": "These also give B's bits",
    "neither": "These also change the result, to bits of neither A nor B",
    "failure": "Training fails with only these",
    None: "Not tried on their own",
}


def described(explanation: Explanation, values: Differing) -> str:
    """The answer as sentences."""
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
        return "None of the differing settings explains the difference."
    return "The search ended before any differing setting was tried."


def changes(names: Sequence[str], values: Differing) -> str:
    """Each name with its values in A and in B."""
    return ", ".join(f"{name} ({' → '.join(values[name])})" for name in names)
