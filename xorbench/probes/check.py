"""Checking a device with a probe: the results that are compared, and those that differ."""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import torch

from xorbench.plan.probes import PROBES
from xorbench.plan.registry import implementation
from xorbench.probes import consistency, memory
from xorbench.probes.exact import ExactCase, compare, digest
from xorbench.universal.golden import Checked

GOLDEN: Final = Path(__file__).with_name("golden.json")


class ProbeResult(NamedTuple):
    """What a probe found on a device.

    Attributes:
        checked: how many results were compared.
        wrong: those that differ.
        skipped: what this device or this PyTorch lacks, and why.
        unjudged: differences of which nobody has measured whether sound devices show them.
    """

    probe: str
    checked: int
    wrong: list[Checked]
    skipped: list[str]
    unjudged: list[Checked]


def check(name: str, device: str) -> ProbeResult:
    """Run one probe on a device at small sizes."""
    if name not in PROBES:  # another interpreter, without the package that adds it
        raise ValueError(f"the {name} probe is not installed in this Python")
    probe, where = PROBES[name], torch.device(device)
    if probe.check:
        found: ProbeResult = implementation(probe.check)(where)
        return found
    return _compared(name, cases_of(name), where)


def cases_of(name: str) -> Iterator[ExactCase]:
    """The cases of a probe that has golden digests."""
    yield from implementation(PROBES[name].cases)()


def _compared(name: str, cases: Iterator[ExactCase], device: torch.device) -> ProbeResult:
    """Compare every case of a probe with its golden digest."""
    found = ProbeResult(name, 0, [], [], [])
    checked = 0
    for case in cases:
        if reason := case.missing(device):
            found.skipped.append(f"{case.name}: {reason}")
            continue
        try:
            compared = compare(case, device, golden()[name][case.name])
        except (RuntimeError, TypeError) as error:
            if not lacks(error):
                raise
            found.skipped.append(f"{case.name}: {_line(error)}")
            continue
        checked += 1
        if compared.wrong:
            found.wrong.append(Checked(case.name, compared.expected, compared.wrong))
    return found._replace(checked=checked)


LACKING: Final = (
    "not implemented",
    "could not run",
    "not supported",
    "only supported",
    "doesn't support",
    "compute capability",
    "is only available",
)


def lacks(error: Exception) -> bool:
    """Whether an error says that there is no such operator, rather than that one failed."""
    if isinstance(error, NotImplementedError):
        return True
    return any(words in str(error).lower() for words in LACKING)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def memory_keeps(device: torch.device) -> ProbeResult:
    """32 MiB written, read back, inverted, and copied about."""
    found = ProbeResult("memory", 0, [], [], [])
    region = memory.MemoryRegion(device, SMALL_MEMORY)
    for _ in range(2):
        for one in [*region.march(), *region.copy()]:
            found.wrong.append(Checked(one.way, "the pattern", one.said))
    return found._replace(checked=2 * region.size // 8)


SMALL_MEMORY: Final = 32 << 20  # bytes


def equal_rows_stay_equal(device: torch.device) -> ProbeResult:
    """Equal rows come out equal, and near float64's."""
    found = ProbeResult("consistency", len(consistency.FUNCTIONS), [], [], [])
    for function in consistency.FUNCTIONS:
        one = consistency.repeated(function, device)
        if one.ulps > consistency.ULPS:
            expected = f"within {consistency.ULPS:g} units in the last place of float64"
            found.wrong.append(Checked(one.name, expected, f"{one.ulps:.3g} off"))
        if one.differ:
            some = ", ".join(map(str, one.differ[:4]))
            fact = Checked(
                one.name,
                "equal rows give equal rows",
                f"{len(one.differ)} of {consistency.ROWS} rows differ from the first: {some}",
            )
            measured = device.type in consistency.MEASURED
            (found.wrong if measured else found.unjudged).append(fact)
    return found


@lru_cache(maxsize=1)
def golden() -> dict[str, dict[str, str]]:
    """The digests of the right answers, by probe and case."""
    found: dict[str, dict[str, str]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


def right_digests() -> dict[str, dict[str, str]]:
    """The same, worked out anew by NumPy."""
    return {
        name: {case.name: digest(case.right(case.make()), case.dtype) for case in cases_of(name)}
        for name, probe in PROBES.items()
        if probe.cases
    }
