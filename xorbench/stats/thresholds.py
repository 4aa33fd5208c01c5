"""From which difference on a time is slower, unless the user says otherwise."""

from typing import Final

THRESHOLD: Final = 0.05  # of a normalized time: the machine cancels
MACHINE_THRESHOLD: Final = 1.5  # times as long, of a raw time
