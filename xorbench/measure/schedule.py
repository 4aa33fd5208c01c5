"""The order of a round: random, so that no case has a place of its own, and seeded."""

import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def shuffled(items: Sequence[Item], seed: int, *what: int | str) -> list[Item]:
    """The items in the order of `what` (a round, a process in it); the same give the same order."""
    order = list(items)
    random.Random("/".join(map(str, (seed, *what)))).shuffle(order)
    return order
