"""Verdicts on values that are identical on every healthy device."""

from collections.abc import Sequence
from typing import Final

from xorbench.records.schema.golden import Fact, ProbeRecord
from xorbench.verdicts import Verdict, failed, inconclusive, passed, skipped, some

ARITHMETIC_HINT: Final = (
    "this device or its compiler does not follow IEEE 754: see docs/universal.md"
)
UNIVERSAL_HINT: Final = (
    "every healthy machine gives this digest: suspect the hardware, or fused operations"
)
PROBES_HINT: Final = (
    "the expected result is exact: suspect the device, or a library that rounds; see docs/probes.md"
)


def checked(check: str, subject: str, values: list[Fact], hint: str = "") -> Verdict:
    """Pass if every value is its golden value; if not, fail with the first mismatches."""
    wrong = [value for value in values if value.expected != value.actual]
    if not wrong:
        return passed(check, subject, "the golden values", values[0].actual[:16])
    shown = some([f"{value.what}: {value.actual[:48]}" for value in wrong], 3, "; ")
    expected = "; ".join(value.expected[:48] for value in wrong[:3])
    return failed(check, subject, expected, shown, hint)


def probed(check: str, subject: str, records: Sequence[ProbeRecord]) -> Verdict:
    """Pass if every result of these exact probes is correct; if not, fail with the first ones."""
    wrong = [f"{value.what}: {value.actual}" for r in records for value in r.wrong]
    unjudged = [f"{value.what}: {value.actual}" for r in records for value in r.unjudged]
    checked, missing = sum(r.checked for r in records), sum(len(r.skipped) for r in records)
    expected = "every result equal to integer arithmetic"
    done = f"{checked:,} results" + (f", {missing} not available" if missing else "")
    if wrong:
        shown = some(wrong, 3, "; ")
        actual = f"{len(wrong)} of {done} wrong: {shown}" if checked else shown
        return failed(check, subject, expected, actual, PROBES_HINT)
    if unjudged:
        hint = "not measured on this kind of device: compare with a second device of the same model"
        return inconclusive(check, subject, expected, "; ".join(unjudged[:3]), hint)
    if not checked:
        reasons = dict.fromkeys(s.partition(": ")[2] for r in records for s in r.skipped)
        return skipped(check, subject, expected, f"{missing} not available: {some([*reasons], 2)}")
    return passed(check, subject, expected, f"{done}, all correct")
