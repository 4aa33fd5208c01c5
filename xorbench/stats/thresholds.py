"""The default thresholds above which a time is slower."""

from typing import Final

THRESHOLD: Final = 0.05  # for a normalized time, in which the machine cancels
MACHINE_THRESHOLD: Final = 1.5  # the ratio of raw times
