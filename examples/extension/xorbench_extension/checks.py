"""A check: from what was observed to a verdict for each case."""

from collections.abc import Iterator

from xorbench.verdicts import Verdict, failed, passed
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks import Check


def falling(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """The loss of each case ends below where it began."""
    for variant in evidence.variants:
        losses = [loss for loss in evidence.first(variant).losses if loss is not None]
        actual = f"from {losses[0]:.3g} to {losses[-1]:.3g}" if losses else "no finite loss"
        said = passed if losses and losses[-1] < losses[0] else failed
        yield said(name, variant.id, "it falls", actual)


FALLING = Check("falling", "the loss ends below where it began", falling, "try a smaller --lr")
