"""The checks of a run: each reads the evidence and gives one verdict per subject.

`CHECKS` lists them in the order of the report; other packages add theirs by the entry points
`xorbench.checks`.
"""

from typing import Final

from xorbench.registry import Registry
from xorbench.verdicts import Verdict
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks import completion, devices, leftovers, pinned, references, sameness
from xorbench.xor.checks.row import Check

__all__ = ["CHECKS", "Check", "judge"]

CHECKS: Final = Registry(
    "checks",
    Check,
    (
        completion.COMPLETION,
        completion.ACCURACY,
        sameness.INPUTS,
        references.GOLDEN_INPUTS,
        references.ACCURACY_OF_ARITHMETIC,
        references.CLOCK,
        sameness.RERUN,
        sameness.WARM_UP,
        sameness.INVARIANCE,
        devices.PARITY,
        devices.ARITHMETIC,
        devices.UNIVERSAL,
        devices.PROBES,
        pinned.PINNED_MEMORY,
        leftovers.SAVE_AND_LOAD,
        leftovers.MEMORY,
    ),
)


def judge(evidence: Evidence) -> list[Verdict]:
    """Every check's verdicts on a run, in the order of `CHECKS`."""
    return [verdict for check in CHECKS.values() for verdict in check.verdicts(evidence)]
