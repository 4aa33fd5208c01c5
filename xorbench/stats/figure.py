"""A figure with its interval, and its text."""

import math
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its interval; the bounds are None for a single process.

    `processes` is the number of measured processes; `unit` is written after the value.
    """

    value: float
    low: float | None = None
    high: float | None = None
    processes: int = 0
    unit: str = ""

    def scaled(self, factor: float) -> "Figure":
        """The figure in another unit."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return replace(self, value=self.value * factor, low=low, high=high)

    def text(self, spec: str = "", no_bounds: str = "") -> str:
        """The figure and its interval, such as `1.07× [1.05, 1.09]`; empty without a value.

        `spec` formats each number, by default with four significant digits. `no_bounds` replaces
        missing bounds.
        """
        return " ".join(filter(None, (self.centre(spec), self.interval(spec, no_bounds))))

    def centre(self, spec: str = "") -> str:
        """The value with its unit; empty without a value."""
        return "" if math.isnan(self.value) else f"{_formatted(self.value, spec)}{self.unit}"

    def interval(self, spec: str = "", no_bounds: str = "") -> str:
        """The bounds in brackets."""
        if math.isnan(self.value):
            return ""
        if self.low is None or self.high is None:
            return f"[{no_bounds}]" if no_bounds else ""
        return f"[{_formatted(self.low, spec)}, {_formatted(self.high, spec)}]"


MISSING: Final = Figure(math.nan)
"""A figure that was not measured."""


def _formatted(value: float, spec: str) -> str:
    return format(value, spec) if spec else number(value)


def number(value: float) -> str:
    """Four significant digits, with thousands separators and without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 3 - math.floor(math.log10(abs(value)))
    return f"{value:.3g}" if digits > 8 else f"{round(value, digits):,.{max(0, digits)}f}"
