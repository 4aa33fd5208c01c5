"""Planned cases that this machine does not support, counted by device and reason."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from xorbench.xor.matrix.case import Case

_NO_DEVICE: Final = re.compile(r"^no \S+( device)?: ")  # repeats the subject of the sentence


class SkippedCase(Protocol):
    """A case that is not trained, the reason, and whether the device or the engine is missing."""

    @property
    def case(self) -> Case:
        """The planned case."""

    @property
    def skipped(self) -> str:
        """The reason."""

    @property
    def lacks(self) -> str:
        """`device` or `engine`."""


@dataclass(frozen=True, slots=True)
class NotTested:
    """Cases of one device that were not trained for one reason.

    `engine` is empty if the whole device is missing.
    """

    device: str
    engine: str
    cases: int
    reason: str

    @property
    def subject(self) -> str:
        """The device in capitals, and the engine if that is missing."""
        return f"{self.device.upper()}{f', {self.engine} engine' if self.engine else ''}"

    @property
    def counted(self) -> str:
        """The number of cases as text."""
        return f"{self.cases} case{'' if self.cases == 1 else 's'}"

    @property
    def sentence(self) -> str:
        """The line of a report: `CUDA: not tested (19 cases): …`."""
        return f"{self.subject}: not tested ({self.counted}): {self.reason}"


def not_tested(skips: Iterable[SkippedCase]) -> list[NotTested]:
    """The skipped cases, counted by device, engine and reason, in the order of the plan."""
    counts = Counter(
        (
            skip.case.device,
            skip.case.engine if skip.lacks == "engine" else "",
            _NO_DEVICE.sub("", skip.skipped),
        )
        for skip in skips
    )
    return [
        NotTested(device, engine, cases, reason)
        for (device, engine, reason), cases in counts.items()
    ]
