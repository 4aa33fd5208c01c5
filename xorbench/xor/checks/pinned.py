"""Is the memory of the batches page-locked if pin_memory is set?"""

from collections.abc import Iterator
from typing import Final

from xorbench.verdicts import Verdict, judged, skipped
from xorbench.xor.analysis.cost_model import has_accelerator
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks.row import Check
from xorbench.xor.matrix.case import Variant
from xorbench.xor.matrix.phases import inseparable

EXPECTED: Final = "every batch of the loader in page-locked memory"
NO_EFFECT: Final = "no effect here: PyTorch ignores pin_memory without an accelerator"


def pinned_memory(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """Every batch of a case with pin_memory is page-locked when the loader returns it."""
    pinned = [variant for variant in evidence.variants if variant.case.pin_memory]
    if not pinned or not has_accelerator(evidence.run):
        reason = NO_EFFECT if pinned else "no case has pin_memory"
        yield skipped(name, "pin_memory", EXPECTED, reason)
        return
    for variant in pinned:
        yield _judged(name, evidence, variant)


def _judged(name: str, evidence: Evidence, variant: Variant) -> Verdict:
    lines = [x for x in evidence.phases.get(variant.id, []) if x.pinned is not None]
    if not lines:
        reason = inseparable(variant.case) or "the pass that inspects batches did not run"
        return skipped(name, variant.id, EXPECTED, reason)
    counts = [f"{x.process}: {x.pinned} of {x.batches}" for x in lines if x.pinned != x.batches]
    actual = f"all {sum(x.batches for x in lines)} batches"
    return judged(name, variant.id, EXPECTED, "; ".join(counts), actual)


PINNED_MEMORY: Final = Check(
    "pinned memory",
    "every batch of a case with pin_memory is in page-locked memory",
    pinned_memory,
    "the loader does not pin, or its batches are copied before they are used: a collate function, a"
    " wrapper around the loader, or this PyTorch",
    needs="pin_memory, an accelerator, and an engine with a DataLoader",
)
