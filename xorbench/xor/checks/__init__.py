"""The checks of a run: each reads the evidence and says of each subject whether it passes.

`CHECKS` has the row of each, in the order in which they are shown; other packages add theirs by
the entry points `xorbench.checks`.
"""

from typing import Final

from xorbench.registry import Registry
from xorbench.verdicts import Verdict
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks import completion, devices, leftovers, pinned, sameness, witnesses
from xorbench.xor.checks.row import Check

__all__ = ["CHECKS", "Check", "judge"]

CHECKS: Final = Registry(
    "checks",
    Check,
    (
        completion.COMPLETION,
        completion.ACCURACY,
        sameness.INPUTS,
        witnesses.GOLDEN_INPUTS,
        witnesses.ACCURACY_OF_ARITHMETIC,
        witnesses.CLOCK,
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
