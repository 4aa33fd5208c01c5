"""The conditions of a speed comparison, equal for both sides: pages, waiting threads, cores."""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

TUNABLES: Final = "GLIBC_TUNABLES"
HUGE_PAGES: Final = "glibc.malloc.hugetlb"
PAGES: Final = ("huge", "default")
MODES: Final = Path("/sys/kernel/mm/transparent_hugepage/enabled")
OLDEST_GLIBC: Final = (2, 35)
WAIT_POLICY: Final = "OMP_WAIT_POLICY"
WAITING: Final = ("sleep", "default")
SPIN_COUNTS: Final = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def shared_variables(pages: str, waiting: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of both sides."""
    return {**page_variables(pages, environment), **waiting_variables(waiting, environment)}


def page_variables(pages: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables for huge pages in malloc, where the system supports them.

    The physical pages that a process happens to get change its speed; huge pages remove most of
    this variance. The setting is appended to the tunables of the user, which win.
    """
    own = environment.get(TUNABLES, "")
    if pages != PAGES[0] or HUGE_PAGES in own or not _has_huge_pages():
        return {}
    return {TUNABLES: ":".join(filter(None, [own, f"{HUGE_PAGES}=1"]))}


def waiting_variables(waiting: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that let waiting threads of OpenMP sleep, unless the user sets how they wait.

    By default they spin. On a core that they share with other load or with loader processes, each
    then delays the thread that it waits for, and a step takes several times as long.
    """
    if waiting != WAITING[0] or any(name in environment for name in SPIN_COUNTS):
        return {}
    return {WAIT_POLICY: "passive"}


def _has_huge_pages() -> bool:
    name, version = platform.libc_ver()
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    try:
        modes = MODES.read_text()
    except OSError:
        return False
    return name == "glibc" and numbers >= OLDEST_GLIBC and "[never]" not in modes


def described(variables: Mapping[str, str]) -> dict[str, str]:
    """The conditions that both sides share, by name."""
    pages = variables.get(TUNABLES, "")
    return {
        "pages for malloc": f"huge ({TUNABLES}={pages})" if pages else "default",
        "waiting threads": f"sleep ({WAIT_POLICY}=passive)"
        if WAIT_POLICY in variables
        else "default",
        "cores": _cores(),
    }


def _cores() -> str:
    """The cores that the programs may use, such as `0-3,8`."""
    if not hasattr(os, "sched_getaffinity"):
        return f"{os.cpu_count()}"
    return _ranges(sorted(os.sched_getaffinity(0)))


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as a list of ranges."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ",".join("-".join(map(str, ends)) for ends in ranges)
