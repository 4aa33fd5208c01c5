"""What a finding's code means, and how a finding is made of it."""

from dataclasses import dataclass

from xorbench.fleet.records import Finding, Node, Severity


@dataclass(frozen=True, slots=True)
class Code:
    """A code: which check found it, how bad it is, what to do.

    `is_open`: something is wrong, but nobody is known to be at fault.
    """

    name: str
    check: str
    severity: Severity
    remedy: str
    is_open: bool = False

    def about(self, node: Node, found: str, severity: Severity | None = None) -> Finding:
        """A finding about a node."""
        return self.of_sender(node.rank, node.node, found, node.device, severity)

    def of_sender(
        self,
        rank: int | None,
        node: str,
        found: str,
        device: str = "",
        severity: Severity | None = None,
    ) -> Finding:
        """A finding about a rank of which there may be no record."""
        return Finding(
            code=self.name,
            severity=severity or self.severity,
            node=node,
            rank=rank,
            device=device,
            found=found,
            remedy=self.remedy,
        )
