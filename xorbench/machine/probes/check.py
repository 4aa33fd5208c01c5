"""Checking a device with a probe: the results that are compared, and those that differ."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import torch

from xorbench.machine.probes.exact import ExactCase, difference, digest
from xorbench.machine.probes.table import PROBES
from xorbench.machine.universal.golden import Checked
from xorbench.registry import implementation

GOLDEN: Final = Path(__file__).with_name("golden.json")
LACKING: Final = (
    "not implemented",
    "could not run",
    "not supported",
    "only supported",
    "doesn't support",
    "compute capability",
    "is only available",
)


@dataclass
class ProbeResult:
    """What a probe found on a device.

    Attributes:
        checked: how many results were compared.
        wrong: those that differ.
        skipped: what this device or this PyTorch lacks, and why.
        unjudged: differences of which nobody has measured whether sound devices show them.
    """

    probe: str
    checked: int = 0
    wrong: list[Checked] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unjudged: list[Checked] = field(default_factory=list)

    def add(self, name: str, compare: Callable[[], Checked | None]) -> None:
        """Compare one result, None if it is right; skip it where the device lacks the operator."""
        try:
            wrong = compare()
        except (RuntimeError, TypeError) as error:
            if not lacks(error):
                raise
            self.skipped.append(f"{name}: {one_line(error)}")
            return
        self.checked += 1
        if wrong:
            self.wrong.append(wrong)


def check(name: str, device: str) -> ProbeResult:
    """Run one probe on a device at small sizes."""
    if name not in PROBES:  # another interpreter, without the package that adds it
        raise ValueError(f"the {name} probe is not installed in this Python")
    torch_device = torch.device(device)
    if PROBES[name].check:
        result: ProbeResult = implementation(PROBES[name].check)(torch_device)
        return result
    result = ProbeResult(name)
    for case in cases_of(name):
        if reason := case.missing(torch_device):
            result.skipped.append(f"{case.name}: {reason}")
        else:
            result.add(case.name, partial(_wrong, case, torch_device, golden()[name][case.name]))
    return result


def _wrong(case: ExactCase, device: torch.device, expected: str) -> Checked | None:
    wrong = difference(case, device, expected)
    return Checked(case.name, expected, wrong) if wrong else None


def cases_of(name: str) -> Iterator[ExactCase]:
    """The cases of a probe that has golden digests."""
    yield from implementation(PROBES[name].cases)()


def lacks(error: Exception) -> bool:
    """Whether an error says that there is no such operator, rather than that one failed."""
    if isinstance(error, NotImplementedError):
        return True
    return any(words in str(error).lower() for words in LACKING)


def one_line(error: Exception) -> str:
    """The beginning of an error's message, in one line."""
    return " ".join(str(error).split())[:120]


@lru_cache(maxsize=1)
def golden() -> dict[str, dict[str, str]]:
    """The digests of the right answers, by probe and case."""
    digests: dict[str, dict[str, str]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return digests


def right_digests() -> dict[str, dict[str, str]]:
    """The same, worked out anew by NumPy."""
    return {
        name: {case.name: digest(case.right(case.make()), case.dtype) for case in cases_of(name)}
        for name, probe in PROBES.items()
        if probe.cases
    }
