"""How many processes a run has, where `--precision` may add some."""

from typing import Final, NamedTuple

from xorbench.options import parse

PROCESSES: Final = 2
FIRST: Final = 2  # fewer give no interval
MOST: Final = 10


class Processes(NamedTuple):
    """Of each config: how many at first and at most, and how far intervals may reach, as a share.

    Without a precision there are as many at most as at first.
    """

    first: int
    most: int
    precision: float | None


def read_processes(processes: str | None, precision: str | None, dashes: str = "--") -> Processes:
    """Read both options; raises `BadOption` naming the one that is wrong."""
    if precision is None:
        count = str(PROCESSES) if processes is None else processes
        first = parse.integer(f"{dashes}processes", count, 1, 64)
        return Processes(first, first, None)
    share = parse.share(f"{dashes}precision", precision)
    most = str(MOST) if processes is None else processes
    return Processes(FIRST, parse.integer(f"{dashes}processes", most, FIRST, 64), share)
