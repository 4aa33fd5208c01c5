"""Checking a device with a probe: the results that are compared, and those that differ."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import torch

from xorbench.machine.probes.exact import ExactCase, difference
from xorbench.machine.probes.golden import cases_of, golden
from xorbench.machine.probes.table import PROBES
from xorbench.machine.universal.golden import Checked
from xorbench.registry import implementation

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


def lacks(error: Exception) -> bool:
    """Whether an error says that there is no such operator, rather than that one failed."""
    if isinstance(error, NotImplementedError):
        return True
    return any(words in str(error).lower() for words in LACKING)


def one_line(error: Exception) -> str:
    """The beginning of an error's message, in one line."""
    return " ".join(str(error).split())[:120]
