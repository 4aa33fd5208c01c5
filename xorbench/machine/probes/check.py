"""The check of a device with a probe."""

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
    """The result of a probe on a device.

    Attributes:
        checked: number of compared results.
        wrong: results that differ.
        skipped: cases that this device or PyTorch does not support, with the reason.
        unjudged: differences that may also occur on healthy devices of this kind.
    """

    probe: str
    checked: int = 0
    wrong: list[Checked] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unjudged: list[Checked] = field(default_factory=list)

    def add(self, name: str, compare: Callable[[], Checked | None]) -> None:
        """Compare one result, None if it is correct; skip it if the operator is unsupported."""
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
    """Run one probe on a device with small sizes."""
    if name not in PROBES:  # this interpreter lacks the package that adds it
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
    """Whether an error means that an operator is unsupported rather than failed."""
    if isinstance(error, NotImplementedError):
        return True
    return any(words in str(error).lower() for words in LACKING)


def one_line(error: Exception) -> str:
    """The start of an error's message in one line."""
    return " ".join(str(error).split())[:120]
