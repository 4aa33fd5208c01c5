"""The number of processes of a run, to which `--precision` may add."""

from typing import Final, NamedTuple

from xorbench.options import parse

PROCESSES: Final = 2
FIRST: Final = 2  # an interval needs two
MOST: Final = 10


class Processes(NamedTuple):
    """First and maximum number of processes per config, and the requested precision as a share.

    Without a precision, both numbers are equal.
    """

    first: int
    most: int
    precision: float | None


def read_processes(processes: str | None, precision: str | None, dashes: str = "--") -> Processes:
    """Read both options. Raises `BadOption` that names the invalid one."""
    if precision is None:
        count = str(PROCESSES) if processes is None else processes
        first = parse.integer(f"{dashes}processes", count, 1, 64)
        return Processes(first, first, None)
    share = parse.share(f"{dashes}precision", precision)
    most = str(MOST) if processes is None else processes
    return Processes(FIRST, parse.integer(f"{dashes}processes", most, FIRST, 64), share)
