"""The three questions that every run is asked."""

from typing import Final

RIGHT: Final = "Does it train right?"
SAME: Final = "Does it train the same?"
FAST: Final = "Does it train as fast as it should?"
