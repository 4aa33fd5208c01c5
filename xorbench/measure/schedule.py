"""The order of a round: random, so that no case has a place of its own, and seeded."""

import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def shuffled(items: Sequence[Item], seed: int, round_number: int) -> list[Item]:
    """The items in this round's order; the same seed and round give the same order."""
    order = list(items)
    random.Random(f"{seed}/{round_number}").shuffle(order)
    return order
