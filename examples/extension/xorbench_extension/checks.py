"""A check: one verdict per case from the evidence of a run."""

from collections.abc import Iterator

from xorbench.verdicts import Verdict, failed, passed
from xorbench.xor.analysis.evidence import Evidence
from xorbench.xor.checks import Check


def falling(name: str, evidence: Evidence) -> Iterator[Verdict]:
    """The final loss of each case is below its first loss."""
    for variant in evidence.variants:
        losses = [loss for loss in evidence.first(variant).losses if loss is not None]
        actual = f"from {losses[0]:.3g} to {losses[-1]:.3g}" if losses else "no finite loss"
        verdict = passed if losses and losses[-1] < losses[0] else failed
        yield verdict(name, variant.id, "it falls", actual)


FALLING = Check("falling", "the final loss is below the first loss", falling, "try a smaller --lr")
