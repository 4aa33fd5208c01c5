"""The picture of a decision boundary: how many points it shows, and how fine it is."""

from typing import Final

SHOWN_POINTS: Final = 2_000
GRID: Final = 81  # steps each way
